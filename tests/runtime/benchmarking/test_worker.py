"""What a worker imports, and when: the times of its cold start are those of the library and of the model alone."""

from __future__ import annotations

import json
import subprocess
import sys

PROGRAM = """
import importlib, json, sys
stages = []
for modules in json.loads(sys.argv[1]):
    for module in modules:
        importlib.import_module(module)
    stages.append(sorted(sys.modules))
print(json.dumps(stages))
"""
#: What a worker imports before it imports the library, to open the model, and before the first inference.
STAGES = (
    ["onward.benchmarking.worker", "onward.benchmarking.candidate"],
    ["onward.backends.onnxruntime_backend"],
    ["onward.benchmarking.model"],
    ["onward.benchmarking.inputs"],
)


def imported() -> list[set[str]]:
    """Stage -> all modules that are imported then."""
    command = [sys.executable, "-c", PROGRAM, json.dumps(STAGES)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [set(modules) for modules in json.loads(output)]


def test_each_stage_imports_only_what_it_needs() -> None:
    start, library, model, inputs = imported()
    ours = {name for name in start if name.startswith("onward.")}
    assert ours == {"onward.benchmarking", "onward.benchmarking.worker", "onward.benchmarking.candidate"}
    assert "numpy" not in start
    assert "onnxruntime" in library
    assert not {"onward.bundle.golden", "onward.parity"} & model
    assert {name.partition(".")[0] for name in inputs - model} <= {"onward", *sys.stdlib_module_names}
    assert not {"onward.sources", "onward.prediction", "PIL"} & inputs
