"""Dataset: three splits of labelled images, and the signature that a network trained on them has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from runtime.errors import DataError
from runtime.signature import Preprocess, Signature

__all__ = ["Dataset", "Split", "divide", "measure_signature"]


@dataclass(frozen=True)
class Split:
    """Labelled images.

    Args:
        images: uint8 `(count, height, width, channels)`.
        targets: int64 `(count,)`, class indices.
    """

    images: NDArray[np.uint8]
    targets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, indices: NDArray[np.integer]) -> Split:
        """The samples at these places, in this order."""
        return Split(self.images[indices], self.targets[indices])


@dataclass(frozen=True)
class Dataset:
    """Everything that training and evaluation need.

    Args:
        name: What `--data` was, without a path: `digits`, `fashion-mnist`, `folder` …
        train: Weights are fitted to these.
        validation: The best epoch is chosen by these.
        test: Looked at once, in the end.
        signature: Of a network trained on these.
        is_public: Whether its images may travel in a bundle; a folder is somebody's own.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    signature: Signature
    is_public: bool

    def __post_init__(self) -> None:
        num_classes = self.signature.num_classes
        for name in ("train", "validation", "test"):
            split: Split = getattr(self, name)
            if not len(split):
                raise DataError(f"data set {self.name!r} has no {name} images.")
            if split.targets.min() < 0 or split.targets.max() >= num_classes:
                raise DataError(
                    f"data set {self.name!r} has labels from {split.targets.min()} to {split.targets.max()}, "
                    f"expected 0 to {num_classes - 1}."
                )


def divide(split: Split, share: float, seed: int = 0) -> tuple[Split, Split]:
    """Take `share` of a split out of it, the same share of every class, at random.

    Returns:
        What is left, and what was taken.
    """
    generator = np.random.default_rng(seed)
    taken = np.zeros(len(split), bool)
    for target in np.unique(split.targets):
        members = generator.permutation(np.flatnonzero(split.targets == target))
        taken[members[: max(1, round(share * len(members)))]] = len(members) > 1
    return split.take(np.flatnonzero(~taken)), split.take(np.flatnonzero(taken))


def measure_signature(train: Split, labels: tuple[str, ...], preprocess: Preprocess | None = None) -> Signature:
    """The signature for these images, with their own mean and standard deviation to four decimals."""
    _, height, width, channels = train.images.shape
    counts = np.stack([np.bincount(train.images[..., c].reshape(-1), minlength=256) for c in range(channels)])
    levels = np.arange(256) / 255
    mean = counts @ levels / counts.sum(1)
    std = np.sqrt(np.maximum(counts @ levels**2 / counts.sum(1) - mean**2, 0))
    return Signature(
        height=height,
        width=width,
        channels=channels,
        mean=tuple(round(float(value), 4) for value in mean),
        std=tuple(max(round(float(value), 4), 1e-4) for value in std),
        labels=labels,
        preprocess=preprocess or Preprocess(),
    )
