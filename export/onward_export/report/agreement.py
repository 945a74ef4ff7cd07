"""Agreement of classifiers: for every class, whether the artifacts give the reference's label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from onward.report import Page
from onward.tasks.classification import Classification
from onward_export.gate import GateResult
from onward_export.report.results import ParityResults

__all__ = ["ClassAgreement", "add_agreement", "class_agreements"]

#: Up to this many classes are all listed; of more, only those with a disagreement.
MAX_CLASSES = 30
MAX_LETTERS = 32


@dataclass(frozen=True)
class ClassAgreement:
    """The samples to which the reference gives one label.

    Args:
        label: The index of the label.
        num_samples: How many samples have it.
        num_disagreeing: Artifact -> how many of them get another label from it, at some batch size.
        num_within_noise: Artifact -> how many of those do not count, because the two largest outputs of the reference
            are closer to each other than the noise floor.
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


def class_agreements(results: ParityResults) -> list[ClassAgreement]:
    """One for each class, in the order of the labels; constant images are left out."""
    answers = _answers(results)
    agreements = []
    for label in range(results.signature.num_classes):
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


def add_agreement(page: Page, results: ParityResults) -> None:
    """A table of classes."""
    agreements = class_agreements(results)
    shown = [item for item in agreements if len(agreements) <= MAX_CLASSES or item.has_disagreement]
    num_samples = sum(item.num_samples for item in agreements)
    num_classes = sum(item.num_samples > 0 for item in agreements)
    page.section(
        "Agreement by class",
        f"The reference assigns the {num_samples:,} samples to {num_classes:,} of {len(agreements):,} classes. The "
        "table says for how many an artifact gives the same class in batches of every size. A disagreement is within "
        "noise if the two largest outputs of the reference are closer to each other than the noise floor.",
    )
    names = [item.artifact for item in results.artifacts]
    if shown:
        page.table(
            ["class", "samples", *names, "other labels given"],
            [_row(item, names, results) for item in shown],
        )
    if not any(item.has_disagreement for item in agreements):
        page.points(["Every artifact gives the reference's label for every sample."])
    elif len(shown) < len(agreements):
        page.points([f"{len(agreements) - len(shown):,} of {len(agreements):,} classes have no disagreement."])


def _row(item: ClassAgreement, names: list[str], results: ParityResults) -> list[str]:
    instead = sorted(item.instead.items(), key=lambda pair: (-pair[1], pair[0]))
    said = ", ".join(f"{_shorten(results.signature.labels[label])} ×{count}" for label, count in instead[:3])
    return [
        _shorten(results.signature.labels[item.label]),
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


def _answers(results: ParityResults) -> _Answers:
    logits = Classification(results.signature).logits
    expected = [results.record.reference[kind][logits].argmax(1) for kind in results.kinds]
    given, excused = {}, {}
    for item in results.artifacts:
        pairs = [_differing(results, item, kind) for kind in results.kinds]
        given[item.artifact] = np.concatenate([label for label, _ in pairs])
        excused[item.artifact] = np.concatenate([flag for _, flag in pairs])
    return _Answers(np.concatenate(expected), given, excused)


def _differing(results: ParityResults, item: GateResult, kind: str) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """The label of each sample, another one if any output at any batch size gives it, and whether that is noise."""
    expected = results.record.reference[kind][Classification(results.signature).logits].argmax(1)
    labels, is_excused = expected.copy(), np.ones(len(expected), bool)
    for output in results.outputs:
        top_two = np.sort(results.record.reference[kind][output], axis=1)[:, -2:]
        is_close = top_two[:, 1] - top_two[:, 0] <= results.record.noise[kind][output].floor
        for grouping in item.replayed[kind]:
            found = np.asarray(grouping[output]).argmax(1)
            differs = found != expected
            labels = np.where(differs & (labels == expected), found, labels)
            is_excused &= ~differs | is_close
    return labels, is_excused
