"""The wheel, in an environment of its own where torch was never installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from onward.bundle import Bundle

ROOT = Path(__file__).parent.parent
UV = Path(sys.executable).with_name("uv")


def run(*command: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def answer(*command: object, cwd: Path) -> Any:
    """The JSON document that a command prints."""
    result = run(*command, cwd=cwd)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment that holds the built wheel and what it asks for, at our pinned versions."""
    if not UV.exists():
        pytest.skip("uv is not beside this Python: make test installs it")
    folder = tmp_path_factory.mktemp("installed")
    build = (UV, "build", "--wheel", "--no-build-isolation", "--python", sys.executable)
    built = run(*build, "-o", folder, ROOT, cwd=folder)
    assert built.returncode == 0, built.stderr
    run(UV, "venv", "--python", sys.executable, folder / "venv", cwd=folder)
    wheel = next(folder.glob("*.whl"))
    python = folder / "venv" / "bin" / "python"
    pinned = (ROOT / "requirements.txt").read_text().replace("\\\n", "").splitlines()
    constraints = [line.split("--hash")[0].strip() for line in pinned if "==" in line]
    (folder / "constraints.txt").write_text("\n".join(constraints))
    got = run(UV, "pip", "install", "--python", python, wheel, "-c", folder / "constraints.txt", cwd=folder)
    if got.returncode:
        if "CI" in os.environ:
            pytest.fail(got.stderr)
        pytest.skip(f"the runtime's packages cannot be installed here: {got.stderr.splitlines()[-1]}")
    return python.parent


def test_the_runtime_floor_works_where_torch_was_never_installed(
    installed: Path, shared_bundle: Bundle, pixels: np.ndarray, tmp_path: Path
) -> None:
    for absent in ("torch", "onnx", "sklearn"):
        assert run(installed / "python", "-c", f"import {absent}", cwd=tmp_path).returncode == 1
    onward = installed / "onward"
    assert run(onward, "--help", cwd=tmp_path).returncode == 0
    verified = answer(onward, "verify", shared_bundle.path, "--json", cwd=tmp_path)
    assert verified["passed"]
    assert [item["skipped"] for item in verified["artifacts"]] == [None] + ["PyTorch is not installed"] * 2
    (tmp_path / "images").mkdir()
    for index, image in enumerate(pixels):
        Image.fromarray(image[..., 0]).save(tmp_path / "images" / f"{index:02}.png")
    predicted = answer(onward, "predict", shared_bundle.path, "images", "--out", "rows.csv", "--json", cwd=tmp_path)
    assert predicted["num_predicted"] == len(pixels)
    timed = answer(onward, "bench", shared_bundle.path, "--rounds", 1, "--process-runs", 1, "--json", cwd=tmp_path)
    assert {row["backend"] for row in timed["rows"]} == {"onnxruntime"}
    assert set(timed["missing"]) == {"torch", "torch-channels-last", "torch-compile", "torchscript", "pt2", "openvino"}
    assert [item["backend"] for item in timed["end_to_end"]] == ["onnxruntime"]
    assert "onnxruntime" in run(onward, "doctor", cwd=tmp_path).stdout
    assert run(installed / "python", "-m", "onward", "inspect", shared_bundle.path, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("command", [["train"], ["export", "some.pt"], ["demo"], ["evaluate", "some.pt"]])
def test_what_needs_torch_says_what_to_install(command: list[str], installed: Path, tmp_path: Path) -> None:
    (tmp_path / "some.pt").write_bytes(b"")
    result = run(installed / "onward", *command, cwd=tmp_path)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "pip install 'onward[" in result.stderr


@pytest.mark.parametrize(
    ("name", "extra"),
    [("train", "training"), ("evaluate", "training"), ("Checkpoint", "training"), ("export", "export")],
)
def test_a_public_name_that_needs_torch_says_what_to_install(
    name: str, extra: str, installed: Path, tmp_path: Path
) -> None:
    code = f"import onward\ntry:\n    onward.{name}\nexcept ImportError as error:\n    print(error)"
    result = run(installed / "python", "-c", code, cwd=tmp_path)
    assert result.stdout == (
        f"onward.{name}: this needs torch, which is not installed: pip install 'onward[{extra}]'\n"
    )


def test_a_torch_artifact_says_that_it_needs_torch(installed: Path, shared_bundle: Bundle, tmp_path: Path) -> None:
    result = run(installed / "onward", "verify", shared_bundle.path, "--artifact", "pt2", cwd=tmp_path)
    assert result.returncode == 2
    assert "needs PyTorch, which is not installed here" in result.stderr


def dry_run(*variables: str) -> subprocess.CompletedProcess[str]:
    """What `make` would do where nothing is set up yet."""
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    return run("make", "--dry-run", "demo", "VENV=nothing-here", "CI=", *variables, cwd=ROOT)


@pytest.mark.parametrize(
    ("build", "size", "command"),
    [
        ("cpu", "about 2 GB on disk", "--torch-backend cpu nothing-here/requirements-cpu.txt"),
        ("pinned", "6.5 GB on disk", "--require-hashes requirements.txt"),
    ],
)
def test_make_says_what_it_takes_before_it_installs(build: str, size: str, command: str) -> None:
    done = dry_run(f"TORCH_BUILD={build}").stdout
    assert 0 < done.index(size) < done.index(command)


def test_make_knows_two_builds_of_pytorch() -> None:
    assert "TORCH_BUILD is 'rocm', expected cpu or pinned" in dry_run("TORCH_BUILD=rocm").stderr


def test_without_cuda_the_other_packages_are_the_pinned_ones(tmp_path: Path) -> None:
    if not shutil.which("make"):
        pytest.skip("make is not installed")
    run("make", f"VENV={tmp_path}", tmp_path / "requirements-cpu.txt", cwd=ROOT)

    def entries(path: Path) -> dict[str, str]:
        parts = re.split(r"^(?=[^ #\n])", path.read_text(), flags=re.MULTILINE)
        return {re.split("[=;]", part)[0]: part for part in parts if "==" in part}

    pinned, chosen = entries(ROOT / "requirements.txt"), entries(tmp_path / "requirements-cpu.txt")
    without_digest = {name: part.split()[0] + "\n" for name, part in pinned.items() if name in ("torch", "torchvision")}
    assert len(without_digest) == 2
    assert chosen == {name: part for name, part in (pinned | without_digest).items() if name in chosen}
    left_out = set(pinned) - set(chosen)
    assert {"nvidia-cublas", "cuda-bindings", "triton"} < left_out
    assert all(re.match("nvidia-|cuda-|triton$", name) for name in left_out)


def test_the_wheel_holds_the_three_floors(installed: Path) -> None:
    import zipfile

    wheel = next(installed.parent.parent.glob("*.whl"))
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in tops if not name.endswith(".dist-info")} == {"onward", "onward_training", "onward_export"}
