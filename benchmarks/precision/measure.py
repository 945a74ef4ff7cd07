"""Measure: what a file loses against float32 on all test images, how fast it is, and what of it stays in float32."""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from onward.backends import Threads, open_backend
from onward.fidelity import Fidelity
from onward.parity import regroup
from onward.signature import Signature

__all__ = ["Speed", "float_nodes", "logits_of", "measure_speeds", "open_file"]

Run = Callable[[], Any]
#: Names of onnxruntime's operators on integers, and of those that only move values.
INTEGER = ("QLinear", "QGemm", "Nhwc", "MaxPool", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Softmax")
MIN_ROUND_S = 0.05


@dataclass(frozen=True)
class Speed:
    """How many times as fast as float32 in onnxruntime: the median over rounds, and their quartiles."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, ratios: Sequence[float]) -> Speed:
        """Of the ratios of all rounds."""
        low, median, high = (float(item) for item in np.quantile(ratios, (0.25, 0.5, 0.75)))
        return cls(median, low, high)

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


def open_file(data: bytes, signature: Signature, *, backend: str = "onnxruntime", threads: int | None = None) -> Any:
    """A backend of Onward. Its threads sleep between inferences: spinning, they would slow down the others."""
    return open_backend("onnx", data, signature, backend=backend, threads=Threads(threads, spin=False))


def logits_of(data: bytes, signature: Signature, images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """Outputs for all images."""
    return dict(regroup(open_file(data, signature).run, images, 100))


def float_nodes(data: bytes, folder: Path) -> Counter[str]:
    """The nodes of onnxruntime's optimised graph that do not compute with integers, by operator."""
    options = ort.SessionOptions()
    options.log_severity_level, options.optimized_model_filepath = 3, str(folder / "optimized.onnx")
    ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    graph = onnx.load(folder / "optimized.onnx").graph
    return Counter(node.op_type for node in graph.node if not node.op_type.startswith(INTEGER))


def measure_speeds(ways: Mapping[str, Run], reference: str, rounds: int) -> dict[str, Speed]:
    """Time all ways in interleaved rounds; each round's time of the reference is what the others are compared with."""
    counts = {name: _count(run) for name, run in ways.items()}
    ratios: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        taken = {name: _time(run, counts[name]) for name, run in ways.items()}
        for name, seconds in taken.items():
            ratios[name].append(taken[reference] / seconds)
    return {name: Speed.of(found) for name, found in ratios.items()}


def _count(run: Run) -> int:
    run()
    return max(1, round(MIN_ROUND_S / statistics.median(_time(run, 1) for _ in range(5))))


def _time(run: Run, count: int) -> float:
    began = time.perf_counter()
    for _ in range(count):
        run()
    return (time.perf_counter() - began) / count


def describe(fidelity: Fidelity) -> list[str]:
    """Cells of a table."""
    assert fidelity.loss is not None
    return [
        f"{0.0 - 100 * fidelity.loss:+.2f}",
        f"{fidelity.agreement:.2%}",
        f"{fidelity.kl:.1e}",
    ]
