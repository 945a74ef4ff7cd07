"""`python -m benchmarks.companions`: makes an environment for each row, runs the line in it, writes docs/companions.md.

It goes on where it stopped: a row that is in artifacts/companions.json is not run again. `--only NAME` runs one row.
Each row takes three to ten minutes on two cores, and with PyTorch 6 GB, which are removed after it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "artifacts" / "companions.json"
PAGE = ROOT / "docs" / "companions.md"
#: What the rows without PyTorch open.
KEPT = ROOT / "tests" / "runtime" / "bundle" / "bundles" / "format-1"
#: Of tests/runtime, a sample of what calls other packages.
TESTS = tuple(f"tests/runtime/{name}" for name in (
    "backends/test_registry.py", "bundle/test_golden.py", "bundle/test_verification.py", "cli/test_predict_command.py",
    "images/test_decode.py", "sinks", "sources", "test_classifier.py",
))  # fmt: skip
#: Of tests/export, those that export a network of each kind.
NETWORKS = ("tests/export/test_cases.py", "tests/export/test_kinds.py")
SHOWN = ("torch", "torchvision", "onnx", "onnxscript", "onnxruntime", "numpy", "pillow")
FORMATS = ("onnx", "torchscript", "pt2")
WITHOUT_TORCH = ("verify", "predict", "bench", "tests")
STEPS = ("train", *FORMATS, *WITHOUT_TORCH, "networks")
TOOLS = ("hatchling", "hypothesis", "jsonschema", "pytest", "pytest-xdist")


@dataclass(frozen=True)
class Row:
    """An environment.

    Args:
        name: What it is called in the results.
        python: The version of Python, as uv finds it.
        packages: What is asked for beside Onward; all others are the newest.
        extras: Onward's extras; without `export`, a bundle that tests/runtime keeps is used.
    """

    name: str
    python: str
    packages: tuple[str, ...]
    extras: str = "export,parquet"


def _torch(version: str, torchvision: str, python: str, *packages: str) -> Row:
    return Row(f"torch {version}", python, (f"torch=={version}", f"torchvision=={torchvision}", *packages))


def _runtime(python: str, onnxruntime: str, *packages: str) -> Row:
    wanted = (f"onnxruntime=={onnxruntime}", *packages) if onnxruntime else packages
    return Row(f"onnxruntime {onnxruntime or 'newest'}, {' '.join(packages)}, {python}", python, wanted, "fast,parquet")


ROWS = (
    _torch("2.6.0", "0.21.0", "3.10", "numpy==1.26.4", "pyarrow==16.1.0"),
    _torch("2.7.0", "0.22.0", "3.12", "numpy==1.26.4", "pyarrow==16.1.0"),
    _torch("2.8.0", "0.23.0", "3.13"),
    _torch("2.9.1", "0.24.1", "3.11"),
    _torch("2.10.0", "0.25.0", "3.12"),
    _torch("2.12.1", "0.27.1", "3.13"),
    _torch("2.15.0", "0.29.2", "3.13"),
    _runtime("3.10", "1.18.0", "numpy==1.26.0", "pillow==10.0.0", "pyarrow==16.0.0"),
    _runtime("3.11", "1.20.1", "numpy==1.26.4", "pillow==10.4.0", "pyarrow==16.1.0"),
    _runtime("3.12", "1.21.1", "numpy==2.0.0", "pillow==11.0.0"),
    _runtime("3.13", "1.23.2", "numpy==2.2.0", "pillow==12.0.0"),
    _runtime("3.13", ""),
)


def run_row(row: Row, work: Path) -> dict[str, Any]:
    """Versions and results of a row; its environment is removed."""
    environment = work / "venv"
    uv = (Path(sys.executable).with_name("uv"), "pip", "install", "--quiet", "--python", environment)
    has_torch = "export" in row.extras
    # what one environment's PyTorch has made or compiled is not for another's
    own = {}
    if has_torch:
        own = {"TORCHINDUCTOR_CACHE_DIR": str(work / "inductor"), "ONWARD_TEST_BUNDLES": str(work / "bundles")}
    try:
        if not has_torch:
            _run(sys.executable, "-m", "tests.making")
        _run(uv[0], "venv", "--quiet", "--clear", "--python", row.python, environment)
        _run(*uv, "--editable", f"{ROOT}[{row.extras}]", *row.packages, *TOOLS)
        _run(*uv, "scikit-learn", "--no-deps")  # the digits
        python = environment / "bin" / "python"
        line = _run(python, "-m", "benchmarks.companions.line", *([] if has_torch else [KEPT]), fails=True, **own)
        pytest = (python, "-m", "pytest", "-q", "--tb=line", "-rfE", "-p", "no:cacheprovider")
        printed = {"tests": _run(*pytest, *TESTS, fails=True, COLUMNS="400", **own).stdout}
        if has_torch:
            printed["networks"] = _run(*pytest, *NETWORKS, fails=True, COLUMNS="400", **own).stdout
        return {
            "name": row.name,
            "versions": json.loads(_run(python, "-c", VERSIONS.format(names=SHOWN)).stdout),
            "results": json.loads((line.stdout.splitlines() or ["{}"])[-1])
            | {step: _counts(text) for step, text in printed.items()},
            "failed": {step: _failed(text) for step, text in printed.items()},
            "errors": line.stderr[-2000:] + "".join(text[-20_000:] for text in printed.values() if _failed(text)),
        }
    finally:
        shutil.rmtree(work, ignore_errors=True)


VERSIONS = """
import importlib.metadata as m, json, platform
found = {{"python": platform.python_version()}}
for name in {names}:
    try:
        found[name] = m.version(name).partition("+")[0]
    except m.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


def _counts(printed: str) -> str:
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error)", printed[-300:])}
    bad = counts.get("failed", 0) + counts.get("error", 0)
    return f"{counts.get('passed', 0)} passed" + (f", {bad} failed" if bad else "")


def _failed(printed: str) -> list[str]:
    """The tests that failed, each by its kind if it has one, else by its name."""
    found = re.findall(r"^(?:FAILED|ERROR) (\S+?\.py)(?:::(\w+)(?:\[(.*?)\])?)?(?: - |$)", printed, re.MULTILINE)
    sentences = (name.removeprefix("test_").replace("_", " ") for _, name, _ in found)
    return list(dict.fromkeys(kind or text or file for (file, _, kind), text in zip(found, sentences, strict=True)))


def _run(*command: object, fails: bool = False, **more: str) -> subprocess.CompletedProcess[str]:
    threads = {"OMP_NUM_THREADS": "1", "PYTHONPATH": "", "PYTHONDONTWRITEBYTECODE": ""}
    environment = os.environ | threads | more
    result = subprocess.run(
        [*map(str, command)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    if result.returncode and not fails:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{result.stderr}")
    return result


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The rows that were run, as two tables in Markdown: the whole line, and the runtime alone."""
    whole = [row for row in rows if "torch" in row["versions"]]
    alone = [row for row in rows if "torch" not in row["versions"]]
    return "\n\n".join(
        _markdown(part, names, steps)
        for part, names, steps in (
            (whole, ("python", *SHOWN), STEPS),
            (alone, ("python", "onnxruntime", "numpy", "pillow"), WITHOUT_TORCH),
        )
        if part
    )


def reasons(rows: Sequence[Mapping[str, Any]]) -> str:
    """Why a step of a row did not pass, a line each: its error, or the tests that failed."""
    found = [
        (row["name"], step, "; ".join(row["failed"].get(step, ())) or (reason if _cell(reason) == "no" else ""))
        for row in rows
        for step, reason in row["results"].items()
    ]
    return "\n".join(f"- {name}, {step}: {reason}" for name, step, reason in found if reason)


def _markdown(rows: Sequence[Mapping[str, Any]], names: Sequence[str], steps: Sequence[str]) -> str:
    lines = ["| " + " | ".join((*names, *steps)) + " |", "|" + " --- |" * (len(names) + len(steps))]
    for row in rows:
        results = [_cell(row["results"].get(step, "–")) for step in steps]
        lines.append("| " + " | ".join([row["versions"].get(name, "–") for name in names] + results) + " |")
    return "\n".join(lines)


def _cell(result: str) -> str:
    return result if result in ("yes", "–") or " passed" in result else "no"


def write_page(rows: Sequence[Mapping[str, Any]]) -> None:
    """Put the tables and the reasons between the page's two marks."""
    before, begin, rest = PAGE.read_text().partition("<!-- begin: python -m benchmarks.companions -->\n")
    _, end, after = rest.partition("<!-- end -->")
    PAGE.write_text(f"{before}{begin}\n{table(rows)}\n\n{reasons(rows)}\n\n{end}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.companions", description=__doc__)
    parser.add_argument("--only", metavar="NAME", help="run the rows whose name contains this")
    parser.add_argument("--work", type=Path, default=ROOT / "artifacts" / "companions", help="where environments go")
    arguments = parser.parse_args()
    done = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for row in ROWS:
        if any(item["name"] == row.name for item in done) or (arguments.only or "") not in row.name:
            continue
        print(f"{row.name} …", flush=True)
        done.append(run_row(row, arguments.work))
        print(f"  {done[-1]['results']}", flush=True)
        done.sort(key=lambda item: [row.name for row in ROWS].index(item["name"]))
        RESULTS.write_text(json.dumps(done, indent=1))
    write_page(done)


if __name__ == "__main__":
    main()
