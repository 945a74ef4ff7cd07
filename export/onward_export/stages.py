"""Stages: what an export does one after the other, how long each took, and how much time is left."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["GATE", "ONNX", "PT2", "REFERENCE", "TORCHSCRIPT", "TORCH_EXPORT", "StageClock", "time_left_s"]

REFERENCE, TORCH_EXPORT, ONNX, PT2 = "reference in float64", "torch.export", "ONNX", ".pt2"
TORCHSCRIPT, GATE = "TorchScript", "parity gate"
#: Each stage's share of the time in one export of ResNet-18 on a busy machine; for the progress line only.
SHARES = {REFERENCE: 0.47, TORCH_EXPORT: 0.03, ONNX: 0.16, PT2: 0.02, TORCHSCRIPT: 0.01, GATE: 0.31}


class StageClock:
    """The seconds of each stage.

    Args:
        on_stage: Called with the name of each stage when it begins.
    """

    def __init__(self, on_stage: Callable[[str], None]) -> None:
        self._on_stage = on_stage
        self._began: list[tuple[str, float]] = []

    def begin(self, name: str) -> None:
        """End the stage before, and begin one."""
        self._began.append((name, time.perf_counter()))
        self._on_stage(name)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the first stage began."""
        return time.perf_counter() - self._began[0][1]

    def seconds(self) -> dict[str, float]:
        """Stage -> its seconds until now; a stage that began several times counts as one."""
        ends = [*(began for _, began in self._began[1:]), time.perf_counter()]
        seconds: dict[str, float] = {}
        for (name, began), end in zip(self._began, ends, strict=True):
            seconds[name] = seconds.get(name, 0.0) + end - began
        return seconds


def time_left_s(stage: str, elapsed_s: float) -> float | None:
    """An estimate for the moment when a stage begins, from the time of the stages before it; None for the first."""
    names = list(SHARES)
    done = sum(SHARES[name] for name in names[: names.index(stage)])
    return elapsed_s * (1 - done) / done if done else None
