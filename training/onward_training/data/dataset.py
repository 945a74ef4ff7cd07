"""Dataset: labelled images for training, validation and testing, and the signature of a network trained on them."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.errors import DataError, some_of
from onward.signature import Preprocess, Signature
from onward_training.data.split import AnySplit, FileSplit, Split

__all__ = ["Dataset", "class_weights", "measure_signature"]

MAX_NAMED = 10


@dataclass(frozen=True)
class Dataset:
    """The images that training and evaluation need.

    Args:
        name: The value of `--data` without a path: `digits`, `fashion-mnist`, `folder` …
        train: For fitting the weights.
        validation: For choosing the best epoch.
        test: For one evaluation at the end.
        signature: Of a network trained on these images.
        is_public: Whether a bundle may contain its images; a folder may be private.
        notes: How many images were left out or converted; one sentence each.
        split_rule: How the images were split into training, validation and test images.
        proportions: What resizing did to the proportions of the images; empty if nothing.

    Raises:
        DataError: A split is empty, or has a label that is not in the signature.
    """

    name: str
    train: AnySplit
    validation: AnySplit
    test: AnySplit
    signature: Signature
    is_public: bool
    notes: tuple[str, ...] = ()
    split_rule: str = ""
    proportions: str = ""

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
        """Keep only these classes, in this order: targets are renumbered, mean and std stay.

        Raises:
            DataError: A label is unknown or given twice, there are fewer than two, or a split has no image of them.
        """
        known = self.signature.labels
        if unknown := [label for label in labels if label not in known]:
            raise DataError(f"data set {self.name!r} has no class {_suggest(unknown, known)}.")
        if len(labels) < 2 or len(set(labels)) != len(labels):
            raise DataError(f"the classes are {', '.join(labels) or 'none'}, expected two classes or more, each once.")
        numbers = np.full(len(known), -1, np.int64)
        numbers[[known.index(label) for label in labels]] = np.arange(len(labels))
        signature = replace(self.signature, labels=tuple(labels))
        train, validation, test = (
            _renumber(split, numbers, signature) for split in (self.train, self.validation, self.test)
        )
        return replace(self, train=train, validation=validation, test=test, signature=signature)

    def relabel(self, labels: Sequence[str]) -> Dataset:
        """The same images as targets of these classes, all of this data set's among them."""
        numbers = np.array([list(labels).index(label) for label in self.signature.labels], np.int64)
        signature = replace(self.signature, labels=tuple(labels))
        train, validation, test = (
            _renumber(split, numbers, signature) for split in (self.train, self.validation, self.test)
        )
        return replace(self, train=train, validation=validation, test=test, signature=signature)

    def for_labels(self, labels: Sequence[str]) -> Dataset:
        """The images of these classes. A class without an image stays a class; a note counts images of others.

        Raises:
            DataError: Each side has classes that the other lacks.
        """
        known = self.signature.labels
        if known == tuple(labels):
            return self
        if set(known) <= set(labels):
            return self.relabel(labels)
        if not set(labels) <= set(known):
            raise DataError(
                f"data set {self.name!r} has classes that the model does not have: "
                f"{some_of([label for label in known if label not in labels], MAX_NAMED)}; and it lacks "
                f"{some_of([label for label in labels if label not in known], MAX_NAMED)}."
            )
        chosen = self.select(labels)
        others = [label for label in known if label not in labels]
        note = f"left out: {len(self.test) - len(chosen.test):,} test images of classes that the model does not have: "
        return replace(chosen, notes=(*self.notes, note + some_of(others, MAX_NAMED)))

    def digest(self) -> str:
        """SHA-256 of everything in the data set that affects training.

        It covers the name, the signature (labels, size, mean, std …), and the targets and pixels of train and
        validation; for images on disk, their relative paths and sizes in bytes instead of pixels.

        Raises:
            DataError: A file on disk is missing.
        """
        digest = hashlib.sha256(json.dumps([self.name, _describe(self.signature)]).encode())
        root = _common_folder([split for split in (self.train, self.validation) if isinstance(split, FileSplit)])
        for split in (self.train, self.validation):
            digest.update(f"{type(split).__name__} {len(split)} {split.image_shape}".encode())
            digest.update(np.ascontiguousarray(split.targets, "<i8").data)
            if isinstance(split, Split):
                digest.update(np.ascontiguousarray(split.images).data)
            else:
                digest.update(json.dumps(list(_listing(split, root))).encode())
        return digest.hexdigest()


def measure_signature(train: Split, labels: tuple[str, ...], preprocess: Preprocess | None = None) -> Signature:
    """The signature for these images, with their mean and standard deviation rounded to four decimals."""
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
    """Balanced weights for the loss: every class has the same total weight.

    Args:
        targets: int64 `(count,)`, class indices.
        num_classes: Number of classes.

    Returns:
        float32 `(classes,)`: count / (num_classes × count of the class); 1 if all classes are equally frequent.

    Raises:
        DataError: A class has no image.

    Source: scikit-learn, `class_weight="balanced"`.
    """
    counts = np.bincount(targets, minlength=num_classes)
    if missing := np.flatnonzero(counts == 0).tolist():
        raise DataError(
            f"class {', '.join(map(str, missing))} has no training image: balanced weights need at least one."
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


def _describe(signature: Signature) -> dict[str, Any]:
    """The signature as plain data with the entries of checkpoint format 1: entries added later do not change a digest,
    so that runs of earlier versions resume."""
    document = signature.to_json()
    if document["preprocess"]["exif"] == "ignore":
        del document["preprocess"]["exif"]
    outputs = [{key: output[key] for key in ("name", "dtype", "shape")} for output in document["outputs"]]
    kept = {key: document[key] for key in ("input", "preprocess", "normalize")}
    return kept | {"outputs": outputs, "labels": document["labels"]}


def _common_folder(splits: list[FileSplit]) -> str:
    return os.path.commonpath([path.parent for split in splits for path in split.paths]) if splits else ""


def _listing(split: FileSplit, root: str) -> Iterator[tuple[str, int]]:
    for path in split.paths:
        try:
            yield path.relative_to(root).as_posix(), path.stat().st_size
        except OSError as error:
            raise DataError(
                f"{path} was readable when the data set was loaded, but is not now: {error.strerror}."
            ) from error
