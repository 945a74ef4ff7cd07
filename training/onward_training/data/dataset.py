"""Dataset: three splits of labelled images, and the signature that a network trained on them has."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from onward.errors import DataError
from onward.signature import Preprocess, Signature
from onward_training.data.files import FileSplit

__all__ = ["AnySplit", "Dataset", "Split", "class_weights", "divide", "measure_signature"]


@dataclass(frozen=True)
class Split:
    """Labelled images in memory.

    Args:
        images: uint8 `(count, height, width, channels)`.
        targets: int64 `(count,)`, class indices.
    """

    images: NDArray[np.uint8]
    targets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of one image."""
        _, height, width, channels = self.images.shape
        return (height, width, channels)

    def take(self, indices: NDArray[np.integer]) -> Split:
        """The samples at these places, in this order."""
        return Split(self.images[indices], self.targets[indices])

    def read(self, where: slice | NDArray[np.integer]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """Images uint8 `(count, height, width, channels)` and targets int64 `(count,)` at these places."""
        return self.images[where], self.targets[where]


#: Both have `targets`, `image_shape`, `take`, `read` and a length; only a Split has its `images` at hand.
AnySplit: TypeAlias = Split | FileSplit
SomeSplit = TypeVar("SomeSplit", Split, FileSplit)


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
        notes: What was left out or converted, counted, a sentence each.

    Raises:
        DataError: A split is empty, or has a label that the signature has not.
    """

    name: str
    train: AnySplit
    validation: AnySplit
    test: AnySplit
    signature: Signature
    is_public: bool
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        num_classes = self.signature.num_classes
        for name in ("train", "validation", "test"):
            split: AnySplit = getattr(self, name)
            if not len(split):
                raise DataError(f"data set {self.name!r} has no {name} images.")
            num_outside = int(((split.targets < 0) | (split.targets >= num_classes)).sum())
            if num_outside:
                raise DataError(
                    f"data set {self.name!r} has labels from {split.targets.min()} to {split.targets.max()}, "
                    f"expected 0 to {num_classes - 1}: {num_outside:,} of its {len(split):,} {name} labels are outside."
                )

    def select(self, labels: Sequence[str]) -> Dataset:
        """Only these classes, in this order: targets are numbered anew, mean and std stay.

        Raises:
            DataError: A label is unknown (the nearest known ones are named) or given twice, fewer than two are
                given, or a split has no image of any of them.
        """
        known = self.signature.labels
        if unknown := [label for label in labels if label not in known]:
            raise DataError(f"data set {self.name!r} has no class {_suggest(unknown, known)}.")
        if len(labels) < 2 or len(set(labels)) != len(labels):
            raise DataError(
                f"{', '.join(labels) or 'nothing'} cannot be told apart: name two classes or more, each once."
            )
        numbers = np.full(len(known), -1, np.int64)
        numbers[[known.index(label) for label in labels]] = np.arange(len(labels))
        signature = replace(self.signature, labels=tuple(labels))
        train, validation, test = (
            _renumber(split, numbers, signature) for split in (self.train, self.validation, self.test)
        )
        return replace(self, train=train, validation=validation, test=test, signature=signature)

    def digest(self) -> str:
        """SHA-256 that says whether a run on another data set would train alike.

        It covers the name, the signature (labels, size, mean, std …), the targets of train and validation, and
        their pixels; of images on disk their relative paths and sizes in bytes instead.

        Raises:
            DataError: A file on disk is gone.
        """
        digest = hashlib.sha256(json.dumps([self.name, self.signature.to_json()]).encode())
        root = _common_folder([split for split in (self.train, self.validation) if isinstance(split, FileSplit)])
        for split in (self.train, self.validation):
            digest.update(f"{type(split).__name__} {len(split)} {split.image_shape}".encode())
            digest.update(np.ascontiguousarray(split.targets, "<i8").data)
            if isinstance(split, Split):
                digest.update(np.ascontiguousarray(split.images).data)
            else:
                digest.update(json.dumps(list(_listing(split, root))).encode())
        return digest.hexdigest()


def divide(split: SomeSplit, share: float, seed: int = 0) -> tuple[SomeSplit, SomeSplit]:
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
    height, width, channels = train.image_shape
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


def class_weights(targets: NDArray[np.int64], num_classes: int) -> NDArray[np.float32]:
    """Balanced weights for the loss: the rarer a class, the heavier, so that all weigh the same in sum.

    Args:
        targets: int64 `(count,)`, class indices.
        num_classes: How many there are.

    Returns:
        float32 `(classes,)`: count / (num_classes × the class's own count); 1 for all where all are as common.

    Raises:
        DataError: A class has no image, so that no weight balances it.

    Source: scikit-learn, `class_weight="balanced"`.
    """
    counts = np.bincount(targets, minlength=num_classes)
    if missing := np.flatnonzero(counts == 0).tolist():
        raise DataError(
            f"class {', '.join(map(str, missing))} has no training image: balanced weights need some of each."
        )
    return (len(targets) / (num_classes * counts)).astype(np.float32)


def _suggest(unknown: list[str], known: tuple[str, ...]) -> str:
    def one(label: str) -> str:
        near = difflib.get_close_matches(label, known, cutoff=0.5)
        return f"{label!r} ({'nearest: ' + ', '.join(near) if near else 'there are ' + ', '.join(known[:20])})"

    return ", ".join(map(one, unknown))


def _renumber(split: AnySplit, numbers: NDArray[np.int64], signature: Signature) -> AnySplit:
    targets = numbers[split.targets]
    kept = split.take(np.flatnonzero(targets >= 0))
    if isinstance(kept, FileSplit):
        kept = replace(kept, signature=signature)
    return replace(kept, targets=targets[targets >= 0])


def _common_folder(splits: list[FileSplit]) -> str:
    return os.path.commonpath([path.parent for split in splits for path in split.paths]) if splits else ""


def _listing(split: FileSplit, root: str) -> Iterator[tuple[str, int]]:
    for path in split.paths:
        try:
            yield path.relative_to(root).as_posix(), path.stat().st_size
        except OSError as error:
            raise DataError(
                f"{path} was there when the data set was loaded, and is not now: {error.strerror}."
            ) from error
