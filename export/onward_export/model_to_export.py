"""Model to export: a network with its signature, real samples and provenance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from onward.cli.console import remark
from onward.errors import DataError, UsageError
from onward.feed import Feed
from onward.signature import AnySignature, Signature
from onward_export.reference.samples import NUM_GOLDEN, NUM_SAMPLES
from onward_training.checkpoint import Checkpoint
from onward_training.data import Dataset, load
from onward_training.evaluator import checkpoint_runner, evaluate
from onward_training.label_order import LabelOrder, check_label_order

__all__ = ["ModelToExport"]

#: So many labelled images check the order of the labels: many if they are small.
MANY_IMAGES, FEW_IMAGES = 1024, 64
SMALL_PX = 64 * 64


@dataclass(frozen=True)
class ModelToExport:
    """A network and what an export needs to know about it.

    Args:
        network: Takes float32 `(batch, channels, height, width)`, or the tensors of the signature; gives logits
            `(batch, classes)`.
        signature: The inputs and outputs.
        real_samples: Real images for the gate, uint8 `(count, height, width, channels)`, or real tensors; None if there
            are none.
        num_golden_real: How many of them are stored in the bundle. Private pictures are not, unless the user asks.
        provenance: Where the weights come from: text and numbers, no paths.
        licence: The model's licence: an SPDX expression such as `Apache-2.0`, or any text.
        label_order: What labelled images say about the order of the labels; None without such images.
    """

    network: nn.Module
    signature: AnySignature
    real_samples: Feed | None = None
    num_golden_real: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)
    licence: str | None = None
    label_order: LabelOrder | None = None

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint,
        *,
        data: str | None = None,
        data_dir: Path | None = None,
        num_golden: int | None = None,
    ) -> ModelToExport:
        """The network, signature, real samples and provenance of a checkpoint.

        Args:
            checkpoint: An opened checkpoint.
            data: The data set for real samples; by default the one that the checkpoint was trained on.
            data_dir: The folder of IDX files.
            num_golden: Number of real samples to store in the bundle; by default 32 if the data set is public, else 0.

        Raises:
            DataError: The data set that `data` names cannot be read. If the checkpoint's own cannot, a remark says so.
        """
        signature = checkpoint.signature
        dataset: Dataset | None = None
        if not isinstance(signature, Signature):
            if data is not None:
                raise UsageError(
                    f"--data is {data}, a data set of images, and the model takes tensors: leave --data out."
                )
            return cls(checkpoint.network(), signature, provenance=_provenance(checkpoint))
        try:
            if not (data or checkpoint.data):
                raise DataError("the checkpoint does not name the data set that it was trained on.")
            dataset = load(data or checkpoint.data, data_dir=data_dir, like=signature)
            if dataset.signature.image_shape != signature.image_shape:
                raise DataError(
                    f"{data or checkpoint.data} has images of shape {dataset.signature.image_shape}, the model takes "
                    f"{signature.image_shape}."
                )
        except DataError as error:
            if data is not None:
                raise
            dataset = None
            remark(f"the gate has no real samples, only random pixels: {error} (`--data NAME` chooses a data set)")
        if num_golden is None:
            num_golden = NUM_GOLDEN if dataset is not None and dataset.is_public else 0
        real = dataset.test.read(slice(0, max(NUM_SAMPLES, num_golden)))[0] if dataset is not None else None
        return cls(
            network=checkpoint.network(),
            signature=signature,
            real_samples=real,
            num_golden_real=num_golden,
            provenance=_provenance(checkpoint),
            label_order=None if dataset is None else _check_labels(checkpoint, dataset),
        )


def _check_labels(checkpoint: Checkpoint, dataset: Dataset) -> LabelOrder | None:
    """The accuracy on labelled images of the data set, spread evenly over all of them, and whether the order fits.

    The number of images depends on their size alone, so that the result is the same everywhere.
    """
    labels = checkpoint.signature.labels
    try:
        test = dataset.for_labels(labels).test
    except DataError as error:
        remark(f"the order of the labels was not checked with images: {error}")
        return None
    num_images = MANY_IMAGES if math.prod(test.image_shape[:2]) <= SMALL_PX else FEW_IMAGES
    chosen = np.unique(np.linspace(0, len(test) - 1, min(num_images, len(test))).astype(np.int64))
    try:
        evaluation = evaluate(checkpoint_runner(checkpoint), test.take(chosen))
    except Exception:  # a user's network may raise anything; the export will say what is wrong with it
        return None
    return check_label_order(labels, evaluation.predicted, evaluation.targets)


def _provenance(checkpoint: Checkpoint) -> dict[str, Any]:
    best = checkpoint.provenance.get("best_epoch")
    epoch = next((epoch for epoch in checkpoint.history if epoch.epoch == best), None)
    return {
        "architecture": checkpoint.architecture,
        "arguments": dict(checkpoint.arguments),
        "data": checkpoint.data.partition(":")[0],
        "weights_sha256": checkpoint.weights_digest(),
        "epochs": len(checkpoint.history),
        "best_epoch": best,
        "train_loss": round(epoch.train_loss, 6) if epoch else None,
        "validation_loss": round(epoch.validation_loss, 6) if epoch else None,
        "validation_accuracy": round(epoch.validation_accuracy, 6) if epoch else None,
    }
