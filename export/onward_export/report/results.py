"""Parity results: what the page reports on, and the errors of every single value."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.bundle.golden import GoldenRecord
from onward.parity import CONSTANT
from onward.signature import AnySignature
from onward.tasks import Task, task_of
from onward_export.failed_formats import FailedFormat
from onward_export.gate import GateResult

__all__ = ["Method", "ParityResults", "format_ratio"]


@dataclass(frozen=True)
class Method:
    """How an export came to its verdict.

    Args:
        memory_formats: The memory formats in which PyTorch's float32 was computed.
        left_out: Memory format -> the reason why the model does not take it.
        stop_reason: Why the gate used no more samples.
    """

    memory_formats: tuple[str, ...]
    left_out: Mapping[str, str]
    stop_reason: str

    def to_json(self) -> dict[str, Any]:
        """The method as in parity.json."""
        return {
            "memory_formats": list(self.memory_formats),
            "memory_formats_left_out": dict(self.left_out),
            "samples": self.stop_reason,
        }


@dataclass(frozen=True)
class ParityResults:
    """What the page reports on.

    Args:
        artifacts: The result of each artifact.
        record: Samples, reference, PyTorch's outputs and noise, all of what the gate measured.
        signature: The signature of the model.
        num_shown: Kind -> how many of its samples may be shown as pictures; all of a kind that is not named.
        failed: The formats that are not published, and why.
        method: How the verdict came about, if it is to be told.
    """

    artifacts: Sequence[GateResult]
    record: GoldenRecord
    signature: AnySignature
    num_shown: Mapping[str, int] = field(default_factory=dict)
    failed: Sequence[FailedFormat] = ()
    method: Method | None = None

    @cached_property
    def task(self) -> Task:
        """What the outputs mean."""
        return task_of(self.signature)

    @property
    def passed(self) -> bool:
        """Whether every artifact passed."""
        return all(item.passed for item in self.artifacts)

    @property
    def is_measured(self) -> bool:
        """Whether there is a reference in float64."""
        return all(noise.is_measured for by_output in self.record.noise.values() for noise in by_output.values())

    @property
    def kinds(self) -> list[str]:
        """The kinds of sample that are judged by the noise floor: all except constant ones."""
        return [kind for kind in self.record.reference if kind != CONSTANT]

    @property
    def outputs(self) -> list[str]:
        """Names of the outputs."""
        return list(next(iter(self.record.reference.values())))

    def num_samples(self, kind: str) -> int:
        """The number of samples of a kind."""
        return len(next(iter(self.record.reference[kind].values())))

    def ratios(self, result: GateResult, kind: str, output: str) -> NDArray[np.float64]:
        """Every error of an artifact over the noise floor: `(batch sizes, samples, *dims)`."""
        given = np.stack([np.asarray(outputs[output], np.float64) for outputs in result.replayed[kind]])
        return np.abs(given - self.record.reference[kind][output]) / self.record.noise[kind][output].floor

    def eager_ratios(self, kind: str, output: str) -> NDArray[np.float64]:
        """Every error of PyTorch's float32, in its largest batches, over the noise floor: `(samples, *dims)`."""
        errors = np.abs(self.record.eager[kind][output] - self.record.reference[kind][output])
        return np.asarray(errors / self.record.noise[kind][output].floor, np.float64)


def format_ratio(ratio: float) -> str:
    """A ratio with a suitable number of digits: 0.97, 41, 12,345."""
    if not math.isfinite(ratio):
        return str(ratio)
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:,.0f}"
