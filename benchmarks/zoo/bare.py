"""Bare: what `torch.onnx.export` and onnxruntime alone make of a network, in terms of PyTorch's own error.

A member that ONNX does not pass is measured here without Onward's code, which shows whose fault it is.
`python -m benchmarks.zoo.bare MEMBER` prints a line of JSON after each step, so that a crash leaves the steps before.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.zoo.source import ROOT, Member
from onward.parity import MAX_NOISE_RATIO, MAX_RELATIVE_ERROR

__all__ = ["CULPRITS", "culprit", "measure_bare"]

#: Images for each kind of the zoo's own; the reference evaluator of onnx takes few, as it is slow.
NUM_IMAGES, NUM_SLOW = 8, 2
CULPRITS = ("torch.onnx.export", "onnxruntime", "PyTorch's own error", "Onward")


def measure_bare(arguments: str, *, timeout_s: float = 600) -> dict[str, Any]:
    """Run the steps in a process of their own.

    Args:
        arguments: The member, as JSON.
        timeout_s: Time limit.

    Returns:
        `own_error`: max |float32 - float64| over the scale of the outputs. `ratio`: max |onnxruntime - float64| over
        max |float32 - float64|; `ratio_plain` without onnxruntime's optimisations; `ratio_reference` by onnx's
        reference evaluator. `error` is the reason why the step after the last of these ended.
    """
    command = [sys.executable, "-m", "benchmarks.zoo.bare", arguments]
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        try:
            code = subprocess.run(command, cwd=ROOT, stdout=out, stderr=err, timeout=timeout_s, check=False).returncode
            error = f"its process ended with exit code {code}" if code else None
        except subprocess.TimeoutExpired:
            error = f"it was stopped after {timeout_s:,.0f} s"
        out.seek(0)
        steps = [json.loads(line) for line in out if line.startswith("{") and line.endswith("}\n")]
    found: dict[str, Any] = {"step": "building the network"}
    for step in steps:
        found |= step
    return found if error is None else {"error": error} | found


def culprit(bare: Mapping[str, Any]) -> str:
    """What is wrong, one of CULPRITS."""
    if bare.get("own_error", 0.0) > MAX_RELATIVE_ERROR:
        return "PyTorch's own error"
    if bare["step"] == "torch.onnx.export":
        return "torch.onnx.export"
    if "ratio" not in bare:
        return "onnxruntime"
    if bare["ratio"] <= MAX_NOISE_RATIO:
        return "Onward"
    right = min(bare.get("ratio_plain", np.inf), bare.get("ratio_reference", np.inf)) <= MAX_NOISE_RATIO
    return "onnxruntime" if right else "torch.onnx.export"


def main(arguments: str) -> None:
    """Measure a member, and print each step."""
    import torch

    from benchmarks.zoo.alive import images
    from benchmarks.zoo.member import build

    member = Member(**json.loads(arguments))
    network, signature = build(member)
    batch = images(signature, seed=1)[:: max(1, 40 // NUM_IMAGES)][:NUM_IMAGES].contiguous()
    with torch.no_grad():
        expected = copy.deepcopy(network).double()(batch.double()).numpy()
        own = np.abs(network(batch).numpy() - expected).max()
    _say(step="torch.onnx.export", own_error=float(own / np.abs(expected).max()))

    def ratio(outputs: Any) -> float:
        return float(np.abs(outputs - expected[: len(outputs)]).max() / max(own, np.finfo(np.float64).tiny))

    with tempfile.TemporaryDirectory(prefix="onward-bare-") as folder:
        path = Path(folder, "bare.onnx")
        try:
            torch.onnx.export(network, (batch,), path, dynamo=True, verbose=False)
        except Exception as error:  # the exporter raises errors of every kind
            _say(error=f"{type(error).__name__}: {_first_line(error)}")
            return
        for step, measure in (("ratio", _optimised), ("ratio_plain", _plain), ("ratio_reference", _reference)):
            _say(step=step)
            try:
                _say(**{step: ratio(measure(path, batch.numpy()))})
            except Exception as error:  # so do onnxruntime and onnx
                _say(error=f"{type(error).__name__}: {_first_line(error)}")
    _say(step="end")


def _optimised(path: Path, batch: Any) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: batch})[0]


def _plain(path: Path, batch: Any) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: batch})[0]


def _reference(path: Path, batch: Any) -> Any:
    from onnx.reference import ReferenceEvaluator

    evaluator = ReferenceEvaluator(str(path))
    outputs: Any = evaluator.run(None, {evaluator.input_names[0]: batch})
    return outputs[0]


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "it gave no reason")[:300]


def _say(**found: Any) -> None:
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
