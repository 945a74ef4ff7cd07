"""Parity: the golden record replayed on the card by Onward's own `verify`, with TF32 off and on, and by the command.

The command runs in a process that never imports PyTorch, so that onnxruntime must find CUDA's libraries alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.gpu.networks import bundle_of, session_backend, torch_backend
from benchmarks.gpu.section import Row, Setting, attempt
from onward.backends import open_artifact
from onward.backends.backend import Backend
from onward.bundle import Bundle
from onward.bundle.verification import verify_backend
from onward.parity import BATCH_SIZES

__all__ = ["run", "tf32_in_torch"]


#: A start of the command with CUDA takes seconds.
BY_COMMAND = ("cnn", "resnet18")


def run(setting: Setting) -> Iterator[Row]:
    for name in setting.networks:
        if name in BY_COMMAND:
            yield attempt({"network": name, "way": "onward verify, the command"}, partial(_command, name, setting))
        for way, (artifact, opened, has_tf32) in _ways(setting).items():
            yield attempt({"network": name, "way": way}, partial(_verify, name, artifact, opened, has_tf32, setting))


def _ways(setting: Setting) -> dict[str, tuple[str, Callable[[Bundle], Backend], bool]]:
    """Way -> artifact, what opens it, and whether PyTorch may use TF32."""
    ways: dict[str, tuple[str, Callable[[Bundle], Backend], bool]] = {
        "onnxruntime": ("onnx", lambda bundle: session_backend(bundle, setting), False),
        "PyTorch eager": ("pt2", lambda bundle: torch_backend(bundle, setting), False),
    }
    if setting.device == "cuda":
        ways |= {
            "PyTorch compiled": ("pt2", lambda bundle: Padded(torch_backend(bundle, setting, "torch-compile")), False),
            "onnxruntime, TF32": ("onnx", lambda bundle: session_backend(bundle, setting, use_tf32="1"), False),
            "PyTorch eager, TF32": ("pt2", lambda bundle: torch_backend(bundle, setting), True),
            "onnxruntime on the CPU": ("onnx", lambda bundle: open_artifact(bundle, bundle.artifact("onnx")), False),
        }
    return ways


def _verify(name: str, artifact: str, opened: Callable[[Bundle], Backend], has_tf32: bool, setting: Setting) -> Row:
    bundle = bundle_of(name, setting)
    backend = opened(bundle)
    with tf32_in_torch(has_tf32):
        found = verify_backend(bundle, bundle.artifact(artifact), backend)
    assert found.verdict is not None
    worst = found.verdict.worst
    placement = getattr(backend, "placement", None)
    return {
        "backend": found.backend,
        "noise_ratio": found.verdict.noise_ratio,
        "rms_ratio": max(row.rms_ratio for row in found.verdict.comparisons),
        "worst": f"{worst.output}, {worst.kind}",
        "max_delta": max(row.max_delta for row in found.verdict.comparisons),
        "assert_close": all(row.assert_close for row in found.verdict.comparisons),
        "passed": found.passed,
        "same_bits": found.same_bits,
        "placement": placement.describe() if placement is not None else None,
        "comparisons": [row.to_json() for row in found.verdict.comparisons],
    }


class Padded(Backend):
    """Runs every batch at one size, filled up with zeros, so that one compiled program does for all.

    Args:
        backend: What runs it.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend, self.signature = backend, backend.signature
        self.inputs, self.outputs, self.num_threads = backend.inputs, backend.outputs, backend.num_threads

    @property
    def name(self) -> str:
        """The backend's."""
        return self.backend.name

    def infer(self, arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch of at most 32 samples."""
        size = max(BATCH_SIZES)
        count = len(next(iter(arrays.values())))
        filled = {
            name: np.concatenate([array, np.zeros_like(array, shape=(size - count, *array.shape[1:]))])
            for name, array in arrays.items()
        }
        return [array[:count] for array in self.backend.infer(filled)]


@contextmanager
def tf32_in_torch(allowed: bool) -> Iterator[None]:
    """Let PyTorch's convolutions and matrix products use TF32, or not."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def _command(name: str, setting: Setting) -> Row:
    """`onward verify BUNDLE --artifact onnx --provider cuda --json`, in a process of its own."""
    command = [sys.executable, "-m", "onward", "verify", str(bundle_of(name, setting).path), "--artifact", "onnx"]
    command += ["--provider", setting.device, "--json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=40)
    if answer.returncode not in (0, 1) or not answer.stdout:
        lines = answer.stderr.strip().splitlines() or ["no message"]
        raise RuntimeError(f"exit code {answer.returncode}: {' '.join(lines)}")
    found = json.loads(answer.stdout)
    (result,) = found["artifacts"]
    return {
        "backend": result["backend"],
        "noise_ratio": result["verdict"]["noise_ratio"],
        "passed": result["passed"],
        "same_bits": result["same_bits_as_builder"],
    }
