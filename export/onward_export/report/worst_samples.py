"""Worst samples: those with the largest errors, as pictures where they are images that may be shown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from onward.parity import CONSTANT, batchings
from onward.report import Page
from onward.report.page import png_data_uri
from onward_export.gate import GateResult
from onward_export.report.results import ParityResults, format_ratio

__all__ = ["WorstSample", "add_worst_samples", "worst_samples"]

#: Of all kinds, and at least of each.
NUM_WORST, NUM_OF_A_KIND = 8, 4
MAX_SIDE_PX = 72
COLUMNS = ("sample", "error", "× noise floor", "of", "in batches of", "reference", "artifact")


@dataclass(frozen=True)
class WorstSample:
    """The largest error of one sample.

    Args:
        kind: `real`, `random` …
        index: Its number among the samples of its kind.
        artifact: The artifact with the error.
        output: The output with the error.
        batch_size: The batch size at which the error is largest.
        noise_ratio: The error over the noise floor.
        error: The largest absolute error.
        expected: The reference's outputs, as the task describes them.
        given: The artifact's outputs, likewise.
    """

    kind: str
    index: int
    artifact: str
    output: str
    batch_size: int
    noise_ratio: float
    error: float
    expected: str
    given: str

    @property
    def name(self) -> str:
        """`real sample 17`."""
        return f"{self.kind} sample {self.index}"


def worst_samples(results: ParityResults, count: int = NUM_WORST) -> list[WorstSample]:
    """Of each kind the samples with the largest error over the noise floor, each once, the worst first.

    Real samples are among them even where random pixels, on which networks are far from what they learned, are worse.
    Constant images are included only where they failed: correct networks can be far above the floor on those.

    Args:
        results: Of the gate.
        count: Samples that are shared out evenly among the kinds, at least 4 to each.
    """
    worst: dict[tuple[str, int], WorstSample] = {}
    for item in results.artifacts:
        for sample in _samples(results, item):
            before = worst.get((sample.kind, sample.index))
            if before is None or _rank(sample) > _rank(before):
                worst[sample.kind, sample.index] = sample
    falling = sorted(worst.values(), key=_rank, reverse=True)
    kinds = list(dict.fromkeys(sample.kind for sample in falling))
    most = max(count // max(len(kinds), 1), NUM_OF_A_KIND)
    of_kinds = [[sample for sample in falling if sample.kind == kind][:most] for kind in kinds]
    return sorted(chain(*of_kinds), key=_rank, reverse=True)


def add_worst_samples(page: Page, results: ParityResults) -> None:
    """Pictures with labels and errors; a table where no sample is a picture."""
    samples = worst_samples(results)
    page.section(
        "The samples with the largest errors",
        "The worst of each kind. For each sample, the artifact, output and batch size with its largest error. "
        "Numbers count from 0.",
    )
    if not any(_is_image(results.record.inputs[sample.kind]) for sample in samples):
        page.table(COLUMNS, [_sample_row(sample) for sample in samples])
        return
    kinds = [kind for kind in results.record.inputs if any(sample.kind == kind for sample in samples)]
    for kind in kinds:
        page.samples([(*_picture(sample, results), _lines(sample)) for sample in samples if sample.kind == kind])


def _samples(results: ParityResults, item: GateResult) -> Iterator[WorstSample]:
    """Each sample at the output and batch size with its largest error."""
    failed = any(row.kind == CONSTANT and not row.passed for row in item.verdict.comparisons)
    for kind in [*results.kinds, *([CONSTANT] if failed else [])]:
        # (outputs, batch sizes, samples)
        ratios = np.stack([_largest(results.ratios(item, kind, output)) for output in results.outputs])
        rank = np.where(np.isnan(ratios), np.inf, ratios)
        sizes = [np.repeat(batches, batches) for batches in batchings(ratios.shape[2], kind)]
        for index in range(ratios.shape[2]):
            output, grouping = map(int, np.unravel_index(rank[:, :, index].argmax(), ratios.shape[:2]))
            ratio = float(ratios[output, grouping, index])
            yield WorstSample(
                kind=kind,
                index=index,
                artifact=item.artifact,
                output=results.outputs[output],
                batch_size=int(sizes[grouping][index]),
                noise_ratio=ratio,
                error=ratio * results.record.noise[kind][results.outputs[output]].floor,
                expected=results.task.describe(results.record.reference[kind], index),
                given=results.task.describe(item.replayed[kind][grouping], index),
            )


def _largest(ratios: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each sample: `(batch sizes, samples, *dims)` -> `(batch sizes, samples)`."""
    return np.asarray(ratios.reshape(*ratios.shape[:2], -1).max(axis=2))


def _rank(sample: WorstSample) -> float:
    return np.inf if np.isnan(sample.noise_ratio) else sample.noise_ratio


def _is_image(feed: object) -> bool:
    """Whether these samples are raw pixels: uint8 `(samples, height, width, 1 or 3)`."""
    return isinstance(feed, np.ndarray) and feed.dtype == np.uint8 and feed.ndim == 4 and feed.shape[3] in (1, 3)


def _picture(sample: WorstSample, results: ParityResults) -> tuple[str, str]:
    """A data URI and an alternative text; the text alone where the picture may not be shown."""
    feed = results.record.inputs[sample.kind]
    if not _is_image(feed) or not isinstance(feed, np.ndarray):
        return "", "no picture"
    if sample.index >= results.num_shown.get(sample.kind, len(feed)):
        return "", "not shown: not stored in the bundle"
    return png_data_uri(feed[sample.index], max_side_px=MAX_SIDE_PX), sample.name


def _lines(sample: WorstSample) -> list[str]:
    return [
        sample.name,
        f"error {sample.error:.1e}, {format_ratio(sample.noise_ratio)} × the noise floor",
        f"{sample.output} of {sample.artifact} in batches of {sample.batch_size}",
        f"reference: {sample.expected}",
        f"{sample.artifact}: {sample.given}",
    ]


def _sample_row(sample: WorstSample) -> list[str]:
    return [
        *(sample.name, f"{sample.error:.1e}", format_ratio(sample.noise_ratio)),
        *(f"{sample.output} of {sample.artifact}", str(sample.batch_size)),
        *(sample.expected, sample.given),
    ]
