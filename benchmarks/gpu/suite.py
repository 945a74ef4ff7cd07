"""Suite: the tests of tests/ that need a card, which are skipped elsewhere; and what `onward doctor` says."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

from benchmarks.gpu.section import Row, Setting, attempt

__all__ = ["card_tests", "run"]

ROOT = Path(__file__).parents[2]
#: How tests find out whether there is a card.
MARKS = ("needs_cuda", "needs_a_card", "/dev/nvidia0", "cuda.is_available")
LIMIT_S = 150


def run(setting: Setting) -> Iterator[Row]:
    yield attempt({"test": "onward doctor"}, _doctor)
    report = setting.work / "suite.xml"
    report.unlink(missing_ok=True)
    command = [sys.executable, "-m", "pytest", "-q", "-ra", "-W", "default", "--continue-on-collection-errors"]
    command += [f"--junitxml={report}", *card_tests()]
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1", "ONWARD_TEST_BUNDLES": str(setting.work / "tests")}
    (setting.work / "tests").mkdir(exist_ok=True)
    try:
        subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        yield {"test": "all tests of a card", "error": f"pytest did not end in {LIMIT_S} s"}
        return
    for case in ElementTree.parse(report).getroot().iter("testcase"):
        yield _row(case)


def card_tests() -> list[str]:
    """`path::name` of each test that is skipped without a card, or with one."""
    found = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text = path.read_text(encoding="utf-8")
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                first = min([node.lineno, *(item.lineno for item in node.decorator_list)])
                source = "\n".join(text.splitlines()[first - 1 : node.end_lineno])
                if any(mark in source for mark in MARKS):
                    found.append(f"{path.relative_to(ROOT).as_posix()}::{node.name}")
    return found


def _row(case: ElementTree.Element) -> Row:
    outcome, detail = "passed", ""
    for kind in ("failure", "error", "skipped"):
        found = case.find(kind)
        if found is not None:
            outcome, detail = {"failure": "failed"}.get(kind, kind), found.get("message", "")
    name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
    return {"test": name, "outcome": outcome, "detail": detail[:300], "seconds": float(case.get("time", 0))}


def _doctor() -> Row:
    command = [sys.executable, "-m", "onward", "doctor", "--json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    return {"outcome": f"exit code {answer.returncode}", "doctor": json.loads(answer.stdout)}
