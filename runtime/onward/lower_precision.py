"""Lower precision: whether an artifact computes here what was measured when it was built.

Its outputs are further from the float64 reference than float32's, on purpose: that distance is its quantisation error.
What the task loses by it was measured once, with labelled images (`onward.fidelity`). On another machine the outputs
must be the recorded ones, up to a small multiple of that error: kernels round in another order, and a value that lies
between two levels goes to either one. A processor whose 8-bit arithmetic saturates is 5 to 16 times as far off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onward.fidelity import Fidelity
from onward.parity import Noise, Outputs, Replay

if TYPE_CHECKING:
    from onward.tasks import Task

__all__ = [
    "FILE",
    "KERNELS",
    "MAX_DEVIATION_RATIO",
    "Deviation",
    "LowerPrecisionVerdict",
    "judge_deviations",
    "quantization_errors",
    "rms",
]

#: The largest deviation that passes, over the quantisation error. Other backends reached 1.05.
MAX_DEVIATION_RATIO = 2.0
#: What a deviation is due to: the kernels that ran the file, or the file itself.
KERNELS, FILE = "kernels", "file"

Floats = NDArray[np.floating[Any]]
#: Kind -> output -> an array `(samples, *dims)`, or a figure.
ByKind = Mapping[str, Mapping[str, Floats]]
Errors = Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Deviation:
    """One output of an artifact on one kind of sample, beside what was recorded when it was built.

    Args:
        output: The output's name.
        kind: `real`, `random` or `constant`.
        num_samples: How many samples.
        deviation: Root-mean-square difference from the recorded outputs: of several batch sizes, the largest.
        quantization_error: Root-mean-square error of the simulated artifact against the float64 reference, at least
            float32's own.
        max_delta: Largest absolute difference from the recorded outputs.
        agreement: Share of samples for which it says the same as was recorded; None where the task does not tell.
    """

    output: str
    kind: str
    num_samples: int
    deviation: float
    quantization_error: float
    max_delta: float
    agreement: float | None

    @property
    def ratio(self) -> float:
        """The deviation over the quantisation error."""
        return self.deviation / self.quantization_error

    @property
    def passed(self) -> bool:
        """The verdict on this row. A NaN fails."""
        return self.ratio <= MAX_DEVIATION_RATIO

    def to_json(self) -> dict[str, Any]:
        """All figures, the ratio and the verdict."""
        return asdict(self) | {"ratio": self.ratio, "passed": self.passed}


@dataclass(frozen=True)
class LowerPrecisionVerdict:
    """Whether an artifact of lower precision computes here what was measured when it was built.

    Args:
        artifact: Its name.
        precision: `int8`, for example.
        deviations: One for each kind of sample and output.
        fidelity: What it loses against float32, measured when it was built; None if the manifest does not say.
        due_to: After a failure, what it is due to: `kernels`, `file`, or empty if that could not be found out.
    """

    artifact: str
    precision: str
    deviations: tuple[Deviation, ...]
    fidelity: Fidelity | None = None
    due_to: str = ""

    @property
    def passed(self) -> bool:
        """Whether every row passed."""
        return bool(self.deviations) and all(row.passed for row in self.deviations)

    @property
    def worst(self) -> Deviation:
        """The row with the largest ratio, a NaN first."""
        return max(self.deviations, key=lambda row: (np.isnan(row.ratio), row.ratio))

    @property
    def deviation_ratio(self) -> float:
        """The worst row's."""
        return self.worst.ratio

    @property
    def agreement(self) -> float | None:
        """The smallest share of samples that have the recorded answer; None where the task does not tell."""
        found = [row.agreement for row in self.deviations if row.agreement is not None]
        return min(found, default=None)

    def describe(self) -> str:
        """The verdict in one to three sentences."""
        if self.passed:
            known = "what it loses was not recorded" if self.fidelity is None else self.fidelity.describe()
            return f"{self.artifact} computes here what was measured when it was built: {known}."
        worst = self.worst
        return (
            f"{self.artifact} computes something else here than when it was built: {worst.output} of {worst.kind} "
            f"samples is {worst.ratio:.1f} times its quantisation error away, at most {MAX_DEVIATION_RATIO:g} is "
            f"allowed. {_CAUSES[self.due_to]}"
        )

    def to_json(self) -> dict[str, Any]:
        """The verdict first, then every row."""
        return {
            "artifact": self.artifact,
            "precision": self.precision,
            "passed": self.passed,
            "deviation_ratio": self.deviation_ratio,
            "due_to": self.due_to or None,
            "deviations": [row.to_json() for row in self.deviations],
            "fidelity": self.fidelity and self.fidelity.to_json(),
        }

    def blaming(self, due_to: str) -> LowerPrecisionVerdict:
        """The same verdict, with what its failure is due to."""
        return replace(self, due_to=due_to)


_CAUSES = {
    KERNELS: "The file is sound: without graph optimisations its outputs are the expected ones. The kernels that ran "
    "it are to blame: processors without VNNI, for example, saturate where weights have 8 bits. Use the float32 "
    "artifact here, or quantise with weights of 7 bits.",
    FILE: "Without graph optimisations the outputs are wrong, too: the file or the installed onnxruntime is to blame. "
    "Copy the bundle again from its source, or use the version of onnxruntime that its provenance names.",
    "": "Use the float32 artifact here.",
}


def quantization_errors(
    simulation: ByKind, reference: ByKind, noise: Mapping[str, Mapping[str, Noise]]
) -> dict[str, dict[str, float]]:
    """Kind -> output -> the root-mean-square quantisation error, at least float32's own error.

    Args:
        simulation: The artifact's graph, computed in float64.
        reference: The model, computed in float64.
        noise: PyTorch float32's error against the reference.
    """
    return {
        kind: {
            output: float(np.maximum(rms(array - reference[kind][output]), noise[kind][output].rms))
            for output, array in outputs.items()
        }
        for kind, outputs in simulation.items()
    }


def judge_deviations(
    replayed: Replay, recorded: Mapping[str, Outputs], errors: Errors, task: Task | None = None
) -> tuple[Deviation, ...]:
    """Compare what `onward.parity.replay` gave with recorded outputs: a row for each kind and output.

    Args:
        replayed: Kind -> the outputs for all samples, once for each way to divide them into batches.
        recorded: Kind -> output -> `(samples, *dims)`.
        errors: Of `quantization_errors`.
        task: Says in how many samples they agree.
    """
    return tuple(
        _deviation(output, kind, [way[output] for way in ways], expected, errors[kind][output], task)
        for kind, ways in replayed.items()
        for output, expected in recorded[kind].items()
    )


def rms(difference: Floats) -> float:
    """The root mean square; a NaN if any value is one."""
    return float(np.sqrt(np.square(np.asarray(difference, np.float64)).mean()))


def _deviation(
    output: str, kind: str, ways: Sequence[Floats], recorded: Floats, error: float, task: Task | None
) -> Deviation:
    stacked, expected = np.stack([np.asarray(way, np.float64) for way in ways]), np.asarray(recorded, np.float64)
    differences = stacked - expected
    return Deviation(
        output=output,
        kind=kind,
        num_samples=len(expected),
        deviation=float(np.max([rms(difference) for difference in differences])),
        quantization_error=error,
        max_delta=float(np.abs(differences).max()),
        agreement=None if task is None else task.agreement(output, stacked, expected),
    )
