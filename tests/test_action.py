"""The GitHub Action: its steps run in bash as a runner would run them, and the workflows of the docs fit it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from onward.benchmarking.report import Report
from onward.bundle import Bundle

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed here")

ROOT = Path(__file__).parent.parent
ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS = {step["name"]: step for step in ACTION["runs"]["steps"]}
#: What `shell: bash` stands for.
BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail")
QUICK = "--no-files --backends onnxruntime --batch-sizes 1 --threads 1 --process-runs 1 --rounds 2"

pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")


def run_step(name: str, given: Mapping[str, object], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a step of the action with these inputs, and files for its summary and outputs."""
    inputs = {key: str(given.get(key, item.get("default", ""))) for key, item in ACTION["inputs"].items()}
    step = STEPS[name]
    assert "${{" not in step["run"], "an input in a script could run code"
    environment = {
        key: re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: inputs[found[1]], str(value))
        for key, value in step["env"].items()
    }
    (folder / "step.sh").write_text(step["run"])
    return subprocess.run(
        [*BASH, str(folder / "step.sh")],
        cwd=folder,
        env=os.environ
        | environment
        | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "GITHUB_STEP_SUMMARY": str(folder / f"{name}.md"),
            "GITHUB_OUTPUT": str(folder / "outputs"),
            "GITHUB_ACTION_PATH": str(ROOT),
        },
        capture_output=True,
        text=True,
    )


@pytest.fixture(scope="module")
def first_bench(shared_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of the step Bench without a baseline."""
    folder = tmp_path_factory.mktemp("first")
    result = run_step("Bench", {"bundle": shared_bundle.path, "bench-options": QUICK}, folder)
    assert result.returncode == 0, result.stderr
    assert (folder / "outputs").read_text() == "report=onward-bench.json\n"
    return folder / "onward-bench.json"


def test_it_verifies_and_benches_and_shows_both(shared_bundle: Bundle, first_bench: Path, tmp_path: Path) -> None:
    inputs = {"bundle": shared_bundle.path, "bench-options": QUICK}
    verified = run_step("Verify", inputs, tmp_path)
    assert verified.returncode == 0, verified.stderr
    assert "onnx" in (tmp_path / "Verify.md").read_text()
    shutil.copy(first_bench, tmp_path / "before.json")
    second = run_step("Bench", inputs | {"baseline": "before.json", "fail-above": "1000%"}, tmp_path)
    assert second.returncode == 0, second.stderr
    compared = json.loads((tmp_path / "onward-bench.json").read_text())["gate"]["num_compared"]
    assert compared == len(Report.load(first_bench).rows)
    summary = (tmp_path / "Bench.md").read_text()
    assert summary == second.stdout
    assert "| batch | backend | median ms |" in summary
    assert "compared with before.json" in summary


def test_a_regression_fails_the_job_and_is_in_the_summary(
    shared_bundle: Bundle, first_bench: Path, tmp_path: Path
) -> None:
    """A baseline that was a thousand times as fast."""
    inputs = {"bundle": shared_bundle.path, "bench-options": QUICK}
    document = json.loads(first_bench.read_text())
    for row in document["rows"]:
        row["rounds_ms"] = [[time / 1000 for time in rounds] for rounds in row["rounds_ms"]]
    (tmp_path / "before.json").write_text(json.dumps(document))
    worse = run_step("Bench", inputs | {"baseline": "before.json"}, tmp_path)
    assert worse.returncode == 1
    assert "WORSE" in (tmp_path / "Bench.md").read_text()
    assert "WORSE" in worse.stdout
    assert (tmp_path / "onward-bench.json").stat().st_size


def test_a_bundle_that_was_changed_fails_the_job(bundle: Bundle, tmp_path: Path) -> None:
    (bundle.path / "model.onnx").write_bytes(b"")
    result = run_step("Verify", {"bundle": bundle.path}, tmp_path)
    assert result.returncode == 2
    assert "model.onnx" in result.stderr


def test_it_installs_itself_without_cuda() -> None:
    step = STEPS["Install Onward"]
    assert subprocess.run([*BASH, "-n", "-c", step["run"]]).returncode == 0
    assert "$GITHUB_ACTION_PATH" in step["run"]
    assert step["env"]["UV_TORCH_BACKEND"] == "cpu"


def workflows() -> list[dict[str, Any]]:
    """The YAML of the guide of bench."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs/bench.md").read_text(), re.MULTILINE | re.DOTALL)
    return [yaml.safe_load(block) for block in blocks]


def test_the_workflows_of_the_docs_are_whole_and_fit_the_action() -> None:
    assert len(workflows()) == 2
    for workflow in workflows():
        assert workflow[True]  # the key `on`, as YAML 1.1 reads it
        for job in workflow["jobs"].values():
            assert job["runs-on"]
            for step in job["steps"]:
                assert ("uses" in step) != ("run" in step)
                if "run" in step:
                    assert subprocess.run([*BASH, "-n", "-c", step["run"]]).returncode == 0
                if step.get("uses") == "./onward":
                    assert set(step["with"]) <= set(ACTION["inputs"])
                    assert {name for name, item in ACTION["inputs"].items() if item.get("required")} <= set(
                        step["with"]
                    )
