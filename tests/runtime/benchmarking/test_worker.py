"""What a worker imports, and when: the times of its cold start are those of the library and of the model alone."""

from __future__ import annotations

import json
import subprocess
import sys

from onward.bundle import Bundle
from tests.needs import needs_pt2, needs_torch

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


@needs_torch
@needs_pt2
def test_a_pt2_file_opens_with_most_of_pytorch_imported(shared_bundle: Bundle) -> None:
    """What `torch.export.load` imports by itself counts as the import, not as opening the file."""
    program = """
import sys
from onward.benchmarking.candidate import Candidate
from onward.benchmarking.model import ModelUnderTest
from onward.benchmarking.worker import Worker
from pathlib import Path
worker = Worker(0.0)
worker.candidate = Candidate(sys.argv[1], "torch", "cpu", 1)
worker._import_library()
before = set(sys.modules)
ModelUnderTest(Path(sys.argv[1])).open(worker.candidate)
print(len(before), len(set(sys.modules) - before))
"""
    command = [sys.executable, "-W", "ignore", "-c", program, str(shared_bundle.path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    num_imported, num_opened = map(int, output.split())
    assert num_opened < num_imported / 2  # without `late_import` it is more than 1
