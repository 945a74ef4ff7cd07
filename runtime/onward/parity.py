"""Parity: how far a candidate is from the mathematical model, measured in PyTorch's own error.

The reference is the model computed in float64. PyTorch's float32 has an error against it: the noise floor.
A candidate's error over that floor is its noise ratio; about 1 means "as good as PyTorch".
docs/parity.md tells the whole rule.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from onward.errors import BackendError
from onward.feed import Feed, num_samples, take

if TYPE_CHECKING:
    from onward.tasks import Task

__all__ = [
    "BATCH_SIZES",
    "CERTAINLY_FAILED",
    "CERTAINLY_PASSED",
    "CONSTANT",
    "MAX_NOISE_RATIO",
    "MAX_RELATIVE_ERROR",
    "Comparison",
    "Noise",
    "Outputs",
    "Replay",
    "Verdict",
    "batchings",
    "compare",
    "judge",
    "judge_replay",
    "measure_noise",
    "regroup",
    "replay",
]

Outputs = Mapping[str, NDArray[np.floating[Any]]]
Run = Callable[[Any], Outputs]  # of a Feed
#: Kind -> the outputs for all samples of it, once for each of its `batchings`.
Replay = Mapping[str, Sequence[Outputs]]

#: Samples are computed in batches of these sizes: kernels differ by batch size, and so may their errors.
BATCH_SIZES = (1, 2, 7, 32)
#: The gate: the largest noise ratio that passes, set by the zoo's evidence (docs/decisions/0010-gate.md).
MAX_NOISE_RATIO = 3.0
#: A verdict is certain up to this share of the largest noise ratio, and above this multiple of it; in between, more
#: samples may give another (docs/decisions/0019-samples.md).
CERTAINLY_PASSED, CERTAINLY_FAILED = 0.5, 4.0
#: Above this share of the output's scale, a noise floor means an ill-conditioned model; constant images, on
#: which correct networks can score 50, fail only above it.
MAX_RELATIVE_ERROR = 1e-4
#: The kind of samples that are all of one value, or nearly: reported, and judged by scale.
CONSTANT = "constant"
#: A floor below a few units in the last place is luck, not precision.
MIN_FLOOR_ULPS = 4
#: The defaults of torch.testing.assert_close for float32.
ASSERT_CLOSE_RTOL, ASSERT_CLOSE_ATOL = 1.3e-6, 1e-5


@dataclass(frozen=True)
class Noise:
    """PyTorch float32's own error against the reference, for one output and one kind of sample.

    Args:
        floor: Largest absolute error over samples, batch sizes and memory formats; at least 4 ulps of `scale`, and
            what the task says (`onward.tasks.Task.noise`).
        rms: Root-mean-square error, at least a tenth of an ulp of `scale`.
        scale: Largest absolute value of the reference.
        is_measured: False where the model cannot run in float64: then the reference is PyTorch's float32 itself,
            and `torch.testing.assert_close` decides in the floor's place.
    """

    floor: float
    rms: float
    scale: float
    is_measured: bool = True

    @property
    def is_ill_conditioned(self) -> bool:
        """Whether PyTorch itself is too far from the mathematics to measure anything by."""
        return self.floor > MAX_RELATIVE_ERROR * self.scale


@dataclass(frozen=True)
class Comparison:
    """One output of one candidate on one kind of sample, beside the reference.

    Args:
        output: The output's name.
        kind: `real`, `random` or `constant`.
        num_samples: How many samples.
        error: Largest absolute error against the float64 reference.
        rms_error: Root-mean-square error against it.
        noise: PyTorch float32's own.
        max_delta: Largest absolute difference from PyTorch's float32 output.
        assert_close: What `torch.testing.assert_close` says of that difference at its defaults.
        agreement: Share of samples for which the candidate says the same as the reference; None where the task does
            not tell.
    """

    output: str
    kind: str
    num_samples: int
    error: float
    rms_error: float
    noise: Noise
    max_delta: float
    assert_close: bool
    agreement: float | None

    @property
    def noise_ratio(self) -> float:
        """Error over the noise floor."""
        return self.error / self.noise.floor

    @property
    def rms_ratio(self) -> float:
        """Root-mean-square error over PyTorch's."""
        return self.rms_error / self.noise.rms

    @property
    def passed(self) -> bool:
        """The verdict on this row. A NaN anywhere fails."""
        if self.kind == CONSTANT:
            # where PyTorch itself is far off, as near as PyTorch is near enough
            floor = self.noise.floor if self.noise.is_measured else 0.0
            return self.error <= max(MAX_RELATIVE_ERROR * self.noise.scale, MAX_NOISE_RATIO * floor)
        if not self.noise.is_measured:
            return self.assert_close
        return self.noise_ratio <= MAX_NOISE_RATIO

    @property
    def is_certain(self) -> bool:
        """Whether more samples would hardly change the verdict."""
        if self.kind == CONSTANT or not self.noise.is_measured:
            return True
        ratio = self.noise_ratio / MAX_NOISE_RATIO
        return not CERTAINLY_PASSED < ratio <= CERTAINLY_FAILED  # a NaN is certain

    def to_json(self) -> dict[str, Any]:
        """All figures, the ratios and the verdict."""
        figures = asdict(self)
        figures["top1_agreement"] = figures.pop("agreement")  # as format 1 of the bundle names it
        return figures | {
            "noise_ratio": self.noise_ratio,
            "rms_ratio": self.rms_ratio,
            "passed": self.passed,
        }


@dataclass(frozen=True)
class Verdict:
    """All comparisons of one artifact, and what they come to."""

    artifact: str
    comparisons: tuple[Comparison, ...]

    @property
    def passed(self) -> bool:
        """Whether every row passed."""
        return bool(self.comparisons) and all(row.passed for row in self.comparisons)

    @property
    def is_certain(self) -> bool:
        """Whether more samples would hardly change the verdict: every row is certain, or one has certainly failed."""
        failed = any(row.is_certain and not row.passed for row in self.comparisons)
        return failed or all(row.is_certain for row in self.comparisons)

    @property
    def worst(self) -> Comparison:
        """The row with the largest noise ratio; rows of constant images come last, a NaN first."""
        return max(self.comparisons, key=_badness)

    @property
    def noise_ratio(self) -> float:
        """The worst row's."""
        return self.worst.noise_ratio

    def to_json(self) -> dict[str, Any]:
        """The verdict first, then every row."""
        return {
            "artifact": self.artifact,
            "passed": self.passed,
            "noise_ratio": self.noise_ratio,
            "comparisons": [row.to_json() for row in self.comparisons],
        }


def measure_noise(reference: NDArray[np.float64], ways: Iterable[NDArray[np.floating[Any]]]) -> Noise:
    """PyTorch's own error, pooled over its ways of computing the same samples.

    Args:
        reference: float64 `(samples, *dims)`.
        ways: float32 `(samples, *dims)` each: one for every batch size and memory format.
    """
    errors = np.stack([np.abs(way.astype(np.float64) - reference) for way in ways])
    scale = float(np.abs(reference).max())
    ulp = float(np.spacing(np.float32(scale)))
    return Noise(
        floor=max(float(errors.max()), MIN_FLOOR_ULPS * ulp),
        rms=max(float(np.sqrt(np.square(errors).mean())), ulp / 10),
        scale=scale,
    )


def compare(
    output: str,
    kind: str,
    candidates: Sequence[NDArray[np.floating[Any]]],
    reference: NDArray[np.float64],
    eager: NDArray[np.float32],
    noise: Noise,
    task: Task | None = None,
) -> Comparison:
    """Set one output of a candidate beside the reference.

    Args:
        output: The output's name.
        kind: The kind of samples.
        candidates: `(samples, *dims)` each: the same samples, computed in batches of other sizes.
        reference: float64 `(samples, *dims)`.
        eager: PyTorch's float32 output, `(samples, *dims)`.
        noise: PyTorch's error on these samples.
        task: Says in how many samples they agree.

    Returns:
        The comparison; the largest errors are over all candidates.
    """
    stacked = np.stack([np.asarray(candidate, np.float64) for candidate in candidates])
    errors = np.abs(stacked - reference)
    deltas = np.abs(stacked - eager)
    return Comparison(
        output=output,
        kind=kind,
        num_samples=len(reference),
        error=float(errors.max()),
        rms_error=float(np.sqrt(np.square(errors).mean())),
        noise=noise,
        max_delta=float(deltas.max()),
        assert_close=bool((deltas <= ASSERT_CLOSE_ATOL + ASSERT_CLOSE_RTOL * np.abs(eager)).all()),
        agreement=None if task is None else task.agreement(output, stacked, reference),
    )


def judge(
    artifact: str,
    run: Run,
    inputs: Mapping[str, Feed],
    reference: Mapping[str, Mapping[str, NDArray[np.float64]]],
    eager: Mapping[str, Mapping[str, NDArray[np.float32]]],
    noise: Mapping[str, Mapping[str, Noise]],
    task: Task | None = None,
) -> Verdict:
    """Run a candidate on every kind of sample, at every batch size, and compare all of its outputs.

    Args:
        artifact: The candidate's name.
        run: A feed of any batch size -> output name -> `(batch, *dims)`.
        inputs: Kind -> samples.
        reference: Kind -> output -> float64 outputs.
        eager: Kind -> output -> PyTorch's float32 outputs.
        noise: Kind -> output -> PyTorch's error.
        task: Says in how many samples they agree.
    """
    return judge_replay(artifact, replay(run, inputs), reference, eager, noise, task)


def replay(run: Run, inputs: Mapping[str, Feed]) -> Replay:
    """Run every kind of sample in its `batchings`."""
    return {
        kind: [regroup(run, samples, sizes) for sizes in batchings(num_samples(samples), kind)]
        for kind, samples in inputs.items()
    }


def batchings(count: int, kind: str = "") -> list[tuple[int, ...]]:
    """How samples are divided into batches, once for each run over all of them; the largest batches come last.

    More than 32 samples run in batches of each of `BATCH_SIZES`. Fewer run twice: in batches of 1, 2, 7 and what is
    left, and all at once. Constant samples, which tell less, run at once only.
    """
    if count > max(BATCH_SIZES):
        return [_divide(count, (size,)) for size in BATCH_SIZES]
    mixed, whole = _divide(count, BATCH_SIZES), (count,)
    return [whole] if kind == CONSTANT else list(dict.fromkeys((mixed, whole)))


def _divide(count: int, sizes: Sequence[int]) -> tuple[int, ...]:
    """Batches of these sizes in turn; the last is as large as what is left."""
    batches: list[int] = []
    for size in itertools.cycle(sizes):
        if count <= 0:
            break
        batches.append(min(size, count))
        count -= size
    return tuple(batches)


def judge_replay(
    artifact: str,
    replayed: Replay,
    reference: Mapping[str, Mapping[str, NDArray[np.float64]]],
    eager: Mapping[str, Mapping[str, NDArray[np.float32]]],
    noise: Mapping[str, Mapping[str, Noise]],
    task: Task | None = None,
) -> Verdict:
    """Compare what `replay` gave, as `judge` does."""
    rows: list[Comparison] = []
    for kind, groupings in replayed.items():
        for output, expected in reference[kind].items():
            candidates = [grouping[output] for grouping in groupings]
            rows.append(compare(output, kind, candidates, expected, eager[kind][output], noise[kind][output], task))
    return Verdict(artifact, tuple(rows))


def regroup(run: Run, samples: Feed, batch_size: int | Sequence[int]) -> dict[str, NDArray[np.floating[Any]]]:
    """Run samples in batches of one size, or of these sizes one after the other, and join the outputs.

    Raises:
        BackendError: An output has not one row for each sample.
    """
    sizes = _divide(num_samples(samples), (batch_size,)) if isinstance(batch_size, int) else batch_size
    starts = itertools.accumulate(sizes, initial=0)
    batches = [run(take(samples, slice(start, start + size))) for start, size in zip(starts, sizes, strict=False)]
    for size, batch in zip(sizes, batches, strict=True):
        for name, array in batch.items():
            if array.shape[:1] != (size,):
                raise BackendError(f"{name} has the shape {array.shape} for a batch of size {size}.")
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _badness(row: Comparison) -> tuple[bool, bool, float]:
    return (np.isnan(row.error), row.kind != CONSTANT, row.noise_ratio)
