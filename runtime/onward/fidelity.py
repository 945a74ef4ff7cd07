"""Fidelity: what the task loses by an artifact of lower precision, judged against a budget.

A float32 artifact is judged by PyTorch's own error (`onward.parity`). An artifact of lower precision is further away on
purpose, so the question is another one: how many images does it get wrong that the float32 artifact gets right? The
answer is a bound with 95 % confidence, never an estimate alone. `onward.tasks` measures it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from onward.document import Document
from onward.errors import BundleError, UsageError, some_of

__all__ = ["Z_ONE_SIDED_95", "Budget", "ClassLoss", "Fidelity", "net_loss_bound"]

#: The 95 % quantile of the normal distribution.
Z_ONE_SIDED_95 = 1.645
#: In a sentence.
MAX_CLASSES_SHOWN = 3
#: Fields of a fidelity that are there exactly where images have labels.
OF_LABELS = ("accuracy_before", "accuracy_after", "chance", "loss_bound")
#: Fields from 0 to 1.
SHARES = ("accuracy_before", "accuracy_after", "chance", "agreement")


@dataclass(frozen=True)
class Budget:
    """The most that an artifact of lower precision may lose.

    The loss and the negative log-likelihood (NLL) decide where images have labels; else KL and agreement do.

    Args:
        max_loss: Of accuracy, as a share of the images: 0.005 is half a point. The bound must be within it.
        max_nll: By how much the mean NLL may rise, in nats. The bound must be within it.
        max_kl: The largest mean KL divergence of the outputs from float32's, in nats.
        min_agreement: The smallest share of images for which it says the same as float32.

    Raises:
        UsageError: A value is out of range.
    """

    max_loss: float = 0.005
    max_nll: float = 0.01
    max_kl: float = 0.005
    min_agreement: float = 0.98

    def __post_init__(self) -> None:
        for name, most in (("max_loss", 1.0), ("max_nll", math.inf), ("max_kl", math.inf)):
            value = getattr(self, name)
            if not 0 < value <= most:
                raise UsageError(f"the budget's {name} is {value}, expected above 0{' to 1' if most == 1 else ''}.")
        if not 0 <= self.min_agreement < 1:
            raise UsageError(f"the budget's min_agreement is {self.min_agreement}, expected from 0 to below 1.")

    @property
    def min_labelled(self) -> int:
        """With fewer labelled images the bound cannot be within `max_loss`, even if no image is lost."""
        return _min_images(self.max_loss)

    @property
    def min_images(self) -> int:
        """Of images without labels: with fewer, `min_agreement` is not proven, even if all agree."""
        return _min_images(1 - self.min_agreement)


@dataclass(frozen=True)
class ClassLoss:
    """A class that loses significantly more than all images together.

    Args:
        label: Of the class.
        num_images: How many images have this label.
        lost: Of these, how many were right before and are wrong now.
        won: Of these, how many were wrong before and are right now.
        bound: The share of its images that it loses at least, with a confidence that allows for the number of classes.
    """

    label: str
    num_images: int
    lost: int
    won: int
    bound: float


@dataclass(frozen=True)
class Fidelity:
    """What an artifact of lower precision (the candidate) loses against the float32 one (the reference).

    Args:
        num_images: How many images both classified.
        num_labelled: How many of them have a label.
        num_unanswered: How many outputs of the candidate are NaN or infinite; they are wrong and agree with nothing.
        num_answers: How many different classes the reference says.
        accuracy_before: Of the reference on the labelled images, 0 to 1; None without labels, as the next ones.
        accuracy_after: Of the candidate.
        chance: The share of the most frequent label.
        lost: How many labelled images the reference gets right and the candidate wrong.
        won: How many it is the other way round.
        loss_bound: `net_loss_bound` of these: the share of images that is lost, at most (95 %).
        nll_change: How much the mean NLL of the labels rises, in nats.
        nll_bound: How much at most (95 %).
        kl: Mean KL(reference ‖ candidate), in nats.
        kl_p99: The 99th percentile over the images.
        agreement: The share of images for which both say the same. A disagreement counts only where the reference's
            two largest logits are further apart than float32's noise.
        num_within_noise: Disagreements that do not count.
        worse_classes: Classes that lose significantly more than the whole.
        budget: What judged it.
    """

    num_images: int
    num_labelled: int
    num_unanswered: int
    num_answers: int
    accuracy_before: float | None
    accuracy_after: float | None
    chance: float | None
    lost: int
    won: int
    loss_bound: float | None
    nll_change: float | None
    nll_bound: float | None
    kl: float
    kl_p99: float
    agreement: float
    num_within_noise: int
    worse_classes: tuple[ClassLoss, ...]
    budget: Budget

    def __post_init__(self) -> None:
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        for name, value in values.items():
            most = 1 if name in SHARES else math.inf
            least = 0 if name in (*SHARES, "lost", "won", "kl", "kl_p99") or name.startswith("num_") else -math.inf
            if isinstance(value, (int, float)) and not (math.isfinite(value) and least <= value <= most):
                raise UsageError(f"{name} of a fidelity is {value}, expected a number from {least} to {most}.")
        if any((values[name] is None) == bool(self.num_labelled) for name in OF_LABELS):
            raise UsageError(f"a fidelity has {self.num_labelled} labelled images; {some_of(OF_LABELS, 4)} do not fit.")

    @property
    def loss(self) -> float | None:
        """The share of labelled images that is lost: accuracy before less accuracy after; None without labels."""
        return (self.lost - self.won) / self.num_labelled if self.num_labelled else None

    @property
    def is_loss_proven(self) -> bool:
        """Whether labelled images prove that the loss is within the budget."""
        return self.loss_bound is not None and self.loss_bound <= self.budget.max_loss

    @property
    def passed(self) -> bool:
        """Whether nothing speaks against it."""
        return not self.problems()

    def problems(self) -> list[str]:
        """Why the budget is exceeded or cannot be judged, a sentence each; empty if it passed."""
        found = []
        if self.num_unanswered:
            found.append(f"The outputs for {self.num_unanswered:,} of {self.num_images:,} images are NaN or infinite.")
        return found + (self._problems_with_labels() if self.num_labelled else self._problems_without_labels())

    def describe(self) -> str:
        """What it loses, in half a sentence, with the budget that judged it."""
        same = f"{_percent(self.agreement)} of {self.num_images:,} images have the same answer as in float32"
        if self.loss is None or self.loss_bound is None:
            budget = f"the budget is {_percent(self.budget.min_agreement)}"
            return f"{same}, {budget}; what accuracy it loses is unknown, because no image had a label"
        verb = "loses" if self.loss >= 0 else "wins"
        most = f"{'and loses ' if self.loss < 0 else ''}at most {_points(max(0.0, self.loss_bound))}"
        classes = [f"{item.label} ({item.lost:,} of {item.num_images:,} images)" for item in self.worse_classes]
        alone = f"; these classes lose more than the others: {some_of(classes, MAX_CLASSES_SHOWN)}" if classes else ""
        return (
            f"it {verb} {_points(abs(self.loss))} of accuracy on {self.num_labelled:,} images, {most} (95 %), and the "
            f"budget is {_points(self.budget.max_loss)}; {same}{alone}"
        )

    def to_json(self) -> dict[str, Any]:
        """The one JSON form; `Fidelity.from_json(fidelity.to_json()) == fidelity`."""
        return asdict(self) | {"worse_classes": [asdict(item) for item in self.worse_classes]}

    @classmethod
    def from_json(cls, document: Mapping[str, Any] | Document) -> Fidelity:
        """Read the JSON form.

        Raises:
            BundleError: A part is missing or of another kind; the document's own class of errors, if it has one.
        """
        return Document.of(document, "the fidelity", BundleError).read_fields(cls)

    def _problems_with_labels(self) -> list[str]:
        assert self.accuracy_before is not None
        assert self.chance is not None
        assert self.loss_bound is not None
        from onward.statistics import wilson_interval  # with numpy, which opening a manifest does without

        found, count, budget = [], self.num_labelled, self.budget
        if wilson_interval(round(self.accuracy_before * count), count)[0] <= self.chance:
            found.append(
                f"The float32 model is at chance, so it has nothing to lose: {_percent(self.accuracy_before)} of "
                f"{count:,} labelled images are right, and {_percent(self.chance)} of them have the most frequent "
                f"label. Check the images, their labels and the weights."
            )
        if count < budget.min_labelled:
            found.append(
                f"{count:,} labelled images are too few to prove a loss of at most {_points(budget.max_loss)}: even if "
                f"none is lost, {budget.min_labelled:,} are needed."
            )
        elif not self.is_loss_proven:
            found.append(
                f"The loss of accuracy may be as large as {_points(self.loss_bound)} (95 %), and the budget is "
                f"{_points(budget.max_loss)}: of {count:,} labelled images {self.lost:,} are lost and {self.won:,} won."
            )
        if self.nll_bound is None or self.nll_bound > budget.max_nll:
            bound = "unknown" if self.nll_bound is None else f"as large as {self.nll_bound:.3g} nats (95 %)"
            found.append(
                f"The rise of the negative log-likelihood may be {bound}, and the budget is {budget.max_nll:g} nats."
            )
        return found

    def _problems_without_labels(self) -> list[str]:
        found, budget = [], self.budget
        if self.num_answers < 2:
            found.append("The float32 model says the same class for every image, so agreement with it shows nothing.")
        if self.num_images < budget.min_images:
            found.append(
                f"{self.num_images:,} images are too few to prove that {_percent(budget.min_agreement)} agree: even if "
                f"all do, {budget.min_images:,} are needed."
            )
        if not self.kl <= budget.max_kl:
            found.append(f"The mean KL divergence is {self.kl:.3g} nats, and the budget is {budget.max_kl:g} nats.")
        if not self.agreement >= budget.min_agreement:
            found.append(
                f"{_percent(self.agreement)} of {self.num_images:,} images have the same answer as with float32, and "
                f"the budget is {_percent(budget.min_agreement)}."
            )
        return found


def net_loss_bound(lost: int, won: int, count: int) -> float:
    """The share of images that is lost at most, net of those that are won, with one-sided 95 % confidence.

    (lost - won + z²/2 + z·√(lost + won + z²/4)) / count with z = 1.645: the score interval of a paired difference.
    Without the terms in z² it would be 0 where nothing is lost, however few the images: with 600 images and a true
    loss of 0.2 points such a bound holds in 70 % of all samples only, this one in every sample.

    Args:
        lost: How many of `count` were right and are wrong now.
        won: How many were wrong and are right now.
        count: Above 0.

    Source: A. Agresti and Y. Min, Simple improved confidence intervals for comparing matched proportions, 2005.
    """
    z = Z_ONE_SIDED_95
    return (lost - won + z**2 / 2 + z * math.sqrt(lost + won + z**2 / 4)) / count


def _min_images(share: float) -> int:
    """How many images bring the bound of no loss down to a share: z² over it."""
    return math.ceil(net_loss_bound(0, 0, 1) / share)


def _points(share: float) -> str:
    text = f"{100 * share:.3g}"
    return f"{text} point{'s' * (text != '1')}"


def _percent(share: float) -> str:
    return f"{share:.2%}"
