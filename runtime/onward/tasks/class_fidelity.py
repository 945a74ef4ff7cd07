"""The fidelity of a classifier: two sets of logits for the same images, compared image by image."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from onward.errors import UsageError
from onward.fidelity import Z_ONE_SIDED_95, Budget, ClassLoss, Fidelity, net_loss_bound
from onward.tasks.task import NO_TARGET

__all__ = ["measure_fidelity"]

#: A class with fewer images is not judged alone.
MIN_CLASS_IMAGES = 10
#: One-sided; shared by all classes (Bonferroni).
SIGNIFICANCE = 0.05
#: The error of a logit in float32 may narrow a margin by both of its logits.
LOGITS_OF_A_MARGIN = 2

Floats = NDArray[np.floating]


def measure_fidelity(
    labels: Sequence[str],
    reference_logits: Floats,
    candidate_logits: Floats,
    targets: NDArray[np.int64] | None,
    noise_floor: float,
    budget: Budget | None = None,
) -> Fidelity:
    """What the candidate loses against the reference.

    Args:
        labels: The model's labels, in the order of the classes.
        reference_logits: Of the float32 model, `(images, classes)`.
        candidate_logits: Of the model of lower precision, for the same images.
        targets: The class of each image, int64 `(images,)`, `NO_TARGET` for one without a label; None without labels.
        noise_floor: Of the logits in float32, as `onward.parity.Noise` has it.
        budget: What judges it; by default `Budget()`.

    Raises:
        UsageError: Shapes or targets do not fit, there are no images, or logits of the reference are NaN or infinite.
    """
    targets = np.full(len(reference_logits), NO_TARGET) if targets is None else np.asarray(targets)
    _check(labels, reference_logits, candidate_logits, targets)
    reference, candidate = (np.asarray(logits, np.float64) for logits in (reference_logits, candidate_logits))
    answered = np.isfinite(candidate).all(1)
    says = np.where(answered, candidate.argmax(1), NO_TARGET - 1)
    said = reference.argmax(1)
    labelled = targets != NO_TARGET
    known = targets[labelled]
    right_before, right_after = said[labelled] == known, says[labelled] == known
    lost, won = right_before & ~right_after, ~right_before & right_after
    within_noise = (says != said) & answered & (_margins(reference) <= LOGITS_OF_A_MARGIN * noise_floor)
    divergence = _divergence(reference[answered], candidate[answered])
    change, bound = _rise(reference, candidate, targets, labelled & answered)
    count = len(known)
    return Fidelity(
        num_images=len(reference),
        num_labelled=count,
        num_unanswered=int((~answered).sum()),
        num_answers=len(np.unique(said)),
        accuracy_before=float(right_before.mean()) if count else None,
        accuracy_after=float(right_after.mean()) if count else None,
        chance=float(np.bincount(known).max() / count) if count else None,
        lost=int(lost.sum()),
        won=int(won.sum()),
        loss_bound=net_loss_bound(int(lost.sum()), int(won.sum()), count) if count else None,
        nll_change=change,
        nll_bound=bound,
        kl=float(divergence.mean()) if len(divergence) else 0.0,
        kl_p99=float(np.quantile(divergence, 0.99)) if len(divergence) else 0.0,
        agreement=float(((says == said) | within_noise).mean()),
        num_within_noise=int(within_noise.sum()),
        worse_classes=_worse_classes(labels, known, lost, won),
        budget=budget or Budget(),
    )


def _check(labels: Sequence[str], reference: Floats, candidate: Floats, targets: NDArray[np.integer]) -> None:
    expected = (len(reference), len(labels))
    for name, logits in (("reference", reference), ("candidate", candidate)):
        if logits.shape != expected:
            raise UsageError(f"the logits of the {name} have shape {logits.shape}, expected {expected}.")
    if not len(reference):
        raise UsageError("there are no images to measure the loss of accuracy on.")
    if targets.shape != expected[:1] or not ((targets >= NO_TARGET) & (targets < len(labels))).all():
        raise UsageError(f"the targets do not fit: expected a class from 0 to {len(labels) - 1} for each image, or -1.")
    if not np.isfinite(reference).all():
        raise UsageError("the logits of the float32 model are NaN or infinite: nothing can be compared with them.")


def _margins(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far the two largest logits of each image are apart, `(images,)`."""
    largest = np.partition(logits, -2, axis=1)
    return np.asarray(largest[:, -1] - largest[:, -2])


def _log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = logits - logits.max(1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(1, keepdims=True)))


def _divergence(reference: NDArray[np.float64], candidate: NDArray[np.float64]) -> NDArray[np.float64]:
    """KL(reference ‖ candidate) of each image in nats, `(images,)`."""
    if not len(reference):
        return np.empty(0)
    before, after = _log_softmax(reference), _log_softmax(candidate)
    return np.asarray(np.maximum((np.exp(before) * (before - after)).sum(1), 0.0))  # rounding may make it negative


def _rise(
    reference: NDArray[np.float64], candidate: NDArray[np.float64], targets: NDArray[np.integer], of: NDArray[np.bool_]
) -> tuple[float | None, float | None]:
    """How much the mean NLL rises, and its bound; the bound needs two images."""
    count = int(of.sum())
    if not count:
        return None, None
    places = np.arange(count), targets[of]
    rises = _log_softmax(reference[of])[places] - _log_softmax(candidate[of])[places]
    mean = float(rises.mean())
    error = float(rises.std(ddof=1) / np.sqrt(count)) if count > 1 else None
    return mean, None if error is None else mean + Z_ONE_SIDED_95 * error


def _worse_classes(
    labels: Sequence[str], known: NDArray[np.integer], lost: NDArray[np.bool_], won: NDArray[np.bool_]
) -> tuple[ClassLoss, ...]:
    """Classes whose own loss is significantly above that of all images, the worst first."""
    counts, losses, wins = (np.bincount(known[mask], minlength=len(labels)) for mask in (slice(None), lost, won))
    judged = np.flatnonzero(counts >= MIN_CLASS_IMAGES)
    if not len(judged):
        return ()
    overall = max(0.0, float((lost.sum() - won.sum()) / len(known)))
    z = NormalDist().inv_cdf(1 - SIGNIFICANCE / len(judged))
    bounds = (losses - wins - z * np.sqrt(losses + wins)) / np.maximum(counts, 1)
    worse = [index for index in judged.tolist() if bounds[index] > overall]
    return tuple(
        ClassLoss(labels[index], int(counts[index]), int(losses[index]), int(wins[index]), float(bounds[index]))
        for index in sorted(worse, key=lambda index: -bounds[index])
    )
