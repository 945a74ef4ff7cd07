"""Agreement: for every class, whether the artifacts give the reference's label.

Worst: the samples with the largest errors, as pictures where they are pictures that may be shown.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onward.parity import BATCH_SIZES, CONSTANT
from onward.report import Page
from onward.report.charts import picture
from onward.signature import LOGITS, PROBABILITIES
from onward_export.gate import Examination
from onward_export.report.evidence import Evidence
from onward_export.report.headline import times

__all__ = ["ClassAgreement", "WorstSample", "add_agreement", "add_worst", "class_agreements", "worst_samples"]


#: Of so many classes all are listed; of more, those with a disagreement.
MAX_CLASSES = 30
MAX_LETTERS = 32


@dataclass(frozen=True)
class ClassAgreement:
    """The samples that the reference gives one label.

    Args:
        label: Its index.
        num_samples: How many they are.
        num_disagreeing: Artifact -> how many of them get another label from it, at some batch size.
        num_within_noise: Artifact -> how many of those do not count, because the reference's own two best are
            nearer to each other than the noise floor.
        instead: Other label -> how many samples got it from some artifact.
    """

    label: int
    num_samples: int
    num_disagreeing: Mapping[str, int]
    num_within_noise: Mapping[str, int]
    instead: Mapping[int, int]

    @property
    def has_disagreement(self) -> bool:
        """Whether any artifact gives another label for any sample."""
        return any(self.num_disagreeing.values())


@dataclass(frozen=True)
class _Answers:
    """All samples, kind after kind: the reference's label, and by artifact what differs from it."""

    expected: NDArray[np.intp]
    given: Mapping[str, NDArray[np.intp]]
    is_excused: Mapping[str, NDArray[np.bool_]]


def class_agreements(evidence: Evidence) -> list[ClassAgreement]:
    """One for each class, in the order of the labels; constant images are left out."""
    answers = _answers(evidence)
    agreements = []
    for label in range(len(evidence.labels)):
        is_here = answers.expected == label
        differs = {name: is_here & (given != label) for name, given in answers.given.items()}
        others = np.stack([np.where(differs[name], answers.given[name], -1) for name in differs])
        pairs = {(sample, int(other)) for sample, row in enumerate(others.T) for other in row if other >= 0}
        agreements.append(
            ClassAgreement(
                label=label,
                num_samples=int(is_here.sum()),
                num_disagreeing={name: int(item.sum()) for name, item in differs.items()},
                num_within_noise={name: int((differs[name] & answers.is_excused[name]).sum()) for name in differs},
                instead=Counter(other for _, other in sorted(pairs)),
            )
        )
    return agreements


def add_agreement(page: Page, evidence: Evidence) -> None:
    """A table of classes."""
    agreements = class_agreements(evidence)
    shown = [item for item in agreements if len(agreements) <= MAX_CLASSES or item.has_disagreement]
    num_samples = sum(item.num_samples for item in agreements)
    num_classes = sum(item.num_samples > 0 for item in agreements)
    page.section(
        "Agreement by class",
        f"Which label the reference gives to each of {num_samples:,} samples, {num_classes:,} of "
        f"{len(agreements):,} classes, and for how many an artifact gives the same in batches of every size. A "
        "disagreement is within noise where the reference's two best are nearer to each other than the noise floor.",
    )
    names = [item.artifact for item in evidence.examinations]
    if shown:
        page.table(
            ["class", "samples", *names, "given instead"],
            [_row(item, names, evidence) for item in shown],
        )
    if not any(item.has_disagreement for item in agreements):
        page.points(["Every sample gets the reference's label from every artifact."])
    elif len(shown) < len(agreements):
        page.points([f"{len(agreements) - len(shown):,} of {len(agreements):,} classes have no disagreement."])


def _row(item: ClassAgreement, names: list[str], evidence: Evidence) -> list[str]:
    instead = sorted(item.instead.items(), key=lambda pair: (-pair[1], pair[0]))
    said = ", ".join(f"{_shorten(evidence.labels[label])} ×{count}" for label, count in instead[:3])
    return [
        _shorten(evidence.labels[item.label]),
        f"{item.num_samples:,}",
        *(_cell(item, name) for name in names),
        said + (" …" if len(instead) > 3 else ""),
    ]


def _cell(item: ClassAgreement, name: str) -> str:
    if not item.num_samples:
        return "–"
    num_agreeing, excused = item.num_samples - item.num_disagreeing[name], item.num_within_noise[name]
    return f"{num_agreeing:,} of {item.num_samples:,}" + (f", {excused:,} within noise" if excused else "")


def _shorten(label: str) -> str:
    return label if len(label) <= MAX_LETTERS else label[: MAX_LETTERS - 1] + "…"


def _answers(evidence: Evidence) -> _Answers:
    expected = [evidence.record.reference[kind][LOGITS].argmax(1) for kind in evidence.kinds]
    given, excused = {}, {}
    for item in evidence.examinations:
        pairs = [_differing(evidence, item, kind) for kind in evidence.kinds]
        given[item.artifact] = np.concatenate([label for label, _ in pairs])
        excused[item.artifact] = np.concatenate([flag for _, flag in pairs])
    return _Answers(np.concatenate(expected), given, excused)


def _differing(evidence: Evidence, item: Examination, kind: str) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The label of each sample, another one if any output at any batch size gives it; and if that is within noise."""
    expected = evidence.record.reference[kind][LOGITS].argmax(1)
    labels, is_excused = expected.copy(), np.ones(len(expected), bool)
    for output in evidence.outputs:
        top_two = np.sort(evidence.record.reference[kind][output], axis=1)[:, -2:]
        is_close = top_two[:, 1] - top_two[:, 0] <= evidence.record.noise[kind][output].floor
        for grouping in item.replayed[kind]:
            found = np.asarray(grouping[output]).argmax(1)
            differs = found != expected
            labels = np.where(differs & (labels == expected), found, labels)
            is_excused &= ~differs | is_close
    return labels, is_excused


NUM_WORST = 8
MAX_SIDE_PX = 72
COLUMNS = ("sample", "error", "× noise floor", "of", "in batches of", "reference", "artifact")


@dataclass(frozen=True)
class WorstSample:
    """Where one sample's error is largest.

    Args:
        kind: `real`, `random` …
        index: Among the samples of its kind.
        artifact: Whose error.
        output: Of what.
        batch_size: How many samples were run at once.
        noise_ratio: The error over the noise floor.
        error: The largest absolute error.
        expected: The reference's label, an index, and its probability.
        given: The artifact's.
    """

    kind: str
    index: int
    artifact: str
    output: str
    batch_size: int
    noise_ratio: float
    error: float
    expected: tuple[int, float]
    given: tuple[int, float]

    @property
    def name(self) -> str:
        """`real sample 17`."""
        return f"{self.kind} sample {self.index}"


def worst_samples(evidence: Evidence, count: int = NUM_WORST) -> list[WorstSample]:
    """The samples with the largest error over the noise floor, each once, the worst first.

    Constant images are among them only where they failed: correct networks can be far from the floor on those.
    """
    worst: dict[tuple[str, int], WorstSample] = {}
    for item in evidence.examinations:
        for sample in _samples(evidence, item):
            before = worst.get((sample.kind, sample.index))
            if before is None or _badness(sample) > _badness(before):
                worst[sample.kind, sample.index] = sample
    return sorted(worst.values(), key=_badness, reverse=True)[:count]


def add_worst(page: Page, evidence: Evidence) -> None:
    """Pictures and what was made of them; a table where no sample is a picture."""
    samples = worst_samples(evidence)
    page.section(
        f"The {len(samples)} samples with the largest errors",
        "Each where its error is largest, over artifacts, outputs and batch sizes. Numbers count from 0.",
    )
    if not any(_is_image(evidence.record.inputs[sample.kind]) for sample in samples):
        page.table(COLUMNS, [_sample_row(sample, evidence) for sample in samples])
        return
    page.samples([(*_picture(sample, evidence), _lines(sample, evidence)) for sample in samples])


def _samples(evidence: Evidence, item: Examination) -> Iterator[WorstSample]:
    """Each sample at its worst output and batch size."""
    failed = any(row.kind == CONSTANT and not row.passed for row in item.verdict.comparisons)
    for kind in [*evidence.kinds, *([CONSTANT] if failed else [])]:
        # (outputs, batch sizes, samples)
        ratios = np.stack([evidence.ratios(item, kind, output).max(axis=2) for output in evidence.outputs])
        badness = np.where(np.isnan(ratios), np.inf, ratios)
        for index in range(ratios.shape[2]):
            output, grouping = map(int, np.unravel_index(badness[:, :, index].argmax(), ratios.shape[:2]))
            ratio = float(ratios[output, grouping, index])
            yield WorstSample(
                kind=kind,
                index=index,
                artifact=item.artifact,
                output=evidence.outputs[output],
                batch_size=BATCH_SIZES[grouping],
                noise_ratio=ratio,
                error=ratio * evidence.record.noise[kind][evidence.outputs[output]].floor,
                expected=_top(evidence.record.reference[kind][PROBABILITIES][index]),
                given=_top(np.asarray(item.replayed[kind][grouping][PROBABILITIES][index], np.float64)),
            )


def _top(probabilities: NDArray[np.float64]) -> tuple[int, float]:
    label = int(probabilities.argmax())
    return label, float(probabilities[label])


def _badness(sample: WorstSample) -> float:
    return np.inf if np.isnan(sample.noise_ratio) else sample.noise_ratio


def _is_image(feed: object) -> bool:
    """Whether these samples are raw pixels: uint8 `(samples, height, width, 1 or 3)`."""
    return isinstance(feed, np.ndarray) and feed.dtype == np.uint8 and feed.ndim == 4 and feed.shape[3] in (1, 3)


def _picture(sample: WorstSample, evidence: Evidence) -> tuple[str, str]:
    """A data URI and an alternative text; the text alone where the picture stays at home."""
    feed = evidence.record.inputs[sample.kind]
    if not _is_image(feed) or not isinstance(feed, np.ndarray):
        return "", "no picture"
    if sample.index >= evidence.num_shown.get(sample.kind, len(feed)):
        return "", "not shown: it does not travel"
    return picture(feed[sample.index], max_side_px=MAX_SIDE_PX), sample.name


def _lines(sample: WorstSample, evidence: Evidence) -> list[str]:
    return [
        sample.name,
        f"error {sample.error:.1e}, {times(sample.noise_ratio)} × the noise floor",
        f"{sample.output} of {sample.artifact} in batches of {sample.batch_size}",
        f"reference: {_said(sample.expected, evidence)}",
        f"{sample.artifact}: {_said(sample.given, evidence)}",
    ]


def _sample_row(sample: WorstSample, evidence: Evidence) -> list[str]:
    return [
        *(sample.name, f"{sample.error:.1e}", times(sample.noise_ratio)),
        *(f"{sample.output} of {sample.artifact}", str(sample.batch_size)),
        *(_said(sample.expected, evidence), _said(sample.given, evidence)),
    ]


def _said(top: tuple[int, float], evidence: Evidence) -> str:
    label, probability = top
    return f"{evidence.labels[label]} ({probability:.1%})"
