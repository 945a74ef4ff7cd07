"""Images: three disjoint sets. One gives the ranges, one decides which nodes stay in float32, one judges the result.

The first two are training images; the third are validation and test images, which had no part in any choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.bundle import Bundle
from onward.errors import DataError, UsageError
from onward.feed import from_pixels
from onward.signature import Signature, of_images
from onward.tasks.task import NO_TARGET
from onward_export.quantization.options import QuantizeOptions
from onward_export.quantization.unlabelled_images import UnlabelledImages
from onward_training.data import AnySplit, load_for

__all__ = ["NUM_RANKING", "QuantizationImages", "default_data"]

NUM_RANKING = 256
#: With fewer images a range is luck.
MIN_CALIBRATION = 16
BATCH_SIZE = 256
#: Decides which images are taken.
SEED = 0


@dataclass(frozen=True)
class QuantizationImages:
    """The images of one quantisation.

    Args:
        name: Where they come from, as in `--data`, without a path.
        calibration: uint8 `(count, height, width, channels)`: give the ranges.
        ranking: The same: decide which nodes stay in float32.
        held_out: Judge the result, with the class of each image, or `NO_TARGET`.
    """

    name: str
    calibration: NDArray[np.uint8]
    ranking: NDArray[np.uint8]
    held_out: tuple[AnySplit | UnlabelledImages, ...]

    @classmethod
    def find(
        cls,
        bundle: Bundle,
        data: str | None,
        files: Sequence[str | Path],
        options: QuantizeOptions,
        data_dir: Path | None = None,
    ) -> QuantizationImages:
        """From a data set, or from files without labels; by default the data set that the model was trained on.

        Raises:
            UsageError: Both are given, or neither and the model's own has no name.
        """
        if files and data:
            raise UsageError("a data set and images are given: choose one. A data set has labels.")
        signature = of_images(bundle.signature)
        if files:
            return cls.from_files([str(path) for path in files], signature, options)
        return cls.from_data(data or default_data(bundle), signature, options, data_dir)

    @classmethod
    def from_data(
        cls, data: str, signature: Signature, options: QuantizeOptions, data_dir: Path | None = None
    ) -> QuantizationImages:
        """From a data set that `onward train` knows.

        Raises:
            DataError: It cannot be read, or has too few images.
            UsageError: It is random, or has another shape than the model.
        """
        if data.partition(":")[0] == "fake":
            raise UsageError(
                "random images cannot calibrate a model: its values have other ranges on real ones. --data names a "
                "data set of the kind that it was trained on."
            )
        dataset = load_for(signature, data, data_dir)
        calibration, ranking = _draw(dataset.train, options.num_calibration)
        held_out = _up_to(options.num_held_out, dataset.test, dataset.validation)
        return cls(dataset.name, calibration, ranking, held_out)

    @classmethod
    def from_files(cls, paths: Sequence[str], signature: Signature, options: QuantizeOptions) -> QuantizationImages:
        """From images without labels: everything that `onward predict` reads.

        Raises:
            DataError: They cannot be read, or are too few.
        """
        wanted = options.num_calibration + NUM_RANKING
        drawn = UnlabelledImages.draw(paths, signature, wanted + options.num_held_out, SEED)
        taken = min(wanted, len(drawn) // 2)
        calibration, ranking = _divide(*drawn.read(slice(taken)), options.num_calibration)
        return cls("files", calibration, ranking, (drawn[taken:],))

    def feed(self, signature: Signature) -> NDArray[Any]:
        """The calibration images as the model takes them."""
        return from_pixels(self.calibration, signature)

    def batches(self) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.int64]]]:
        """The held-out images with their targets, some at a time."""
        for split in self.held_out:
            for at in range(0, len(split), BATCH_SIZE):
                images, targets = split.read(slice(at, at + BATCH_SIZE))
                if len(images):
                    yield images, targets


def default_data(bundle: Bundle) -> str:
    """The data set that a model was trained on, if its name alone finds it.

    Raises:
        UsageError: It does not.
    """
    name = str(bundle.provenance.get("data", ""))
    if name in ("", "folder", "fake"):
        raise UsageError(
            "calibration needs images of the kind that the model was trained on: --data folder:PATH names a folder "
            "with labelled images, --images PATH one without labels."
        )
    return name


def _draw(train: AnySplit, num_calibration: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Calibration and ranking images, drawn by a fixed seed."""
    chosen = np.random.default_rng(SEED).permutation(len(train))[: num_calibration + NUM_RANKING]
    return _divide(*train.read(chosen), num_calibration)


def _divide(
    images: NDArray[np.uint8], targets: NDArray[np.int64], num_calibration: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The first for calibration, the others for ranking.

    Raises:
        DataError: They are too few, or all of one class.
    """
    if len(images) < 2 * MIN_CALIBRATION:
        raise DataError(f"{len(images)} images are too few to calibrate a model: {2 * MIN_CALIBRATION} are needed.")
    if np.ptp(targets) == 0 and targets[0] != NO_TARGET:
        raise DataError("all images for calibration are of one class: the ranges would be those of that class.")
    count = min(num_calibration, len(images) // 2)
    return images[:count], images[count:]


def _up_to(count: int, *splits: AnySplit) -> tuple[AnySplit, ...]:
    found: list[AnySplit] = []
    for split in splits:
        taken = min(count, len(split))
        found.append(split if taken == len(split) else split.take(np.arange(taken)))
        count -= taken
    return tuple(split for split in found if len(split))
