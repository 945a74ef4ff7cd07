"""Model to export: a network, its signature, real samples and where its weights come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from onward.cli.console import remark
from onward.errors import DataError, UsageError
from onward.feed import Feed
from onward.signature import AnySignature, Signature
from onward_export.reference.samples import NUM_GOLDEN, NUM_SAMPLES
from onward_training.checkpoint import Checkpoint
from onward_training.data import Dataset, load

__all__ = ["ModelToExport"]


@dataclass(frozen=True)
class ModelToExport:
    """A network and what the export has to know about it.

    Args:
        network: Takes float32 `(batch, channels, height, width)`, or the tensors of the signature; gives logits
            `(batch, classes)`.
        signature: What goes in and what comes out.
        real_samples: Real images, uint8 `(count, height, width, channels)`, or real tensors, for the gate; None where
            there are none.
        num_golden_real: How many of them travel in the bundle. Somebody's pictures do not, unless they say so.
        provenance: Where the weights come from: text and numbers, no paths.
        licence: Of the model: an SPDX expression such as `Apache-2.0`, or any text.
    """

    network: nn.Module
    signature: AnySignature
    real_samples: Feed | None = None
    num_golden_real: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)
    licence: str | None = None

    @classmethod
    def from_checkpoint(
        cls,
        checkpoint: Checkpoint,
        *,
        data: str | None = None,
        data_dir: Path | None = None,
        num_golden: int | None = None,
    ) -> ModelToExport:
        """What a checkpoint brings to its export: network, signature, real samples, provenance.

        Args:
            checkpoint: An opened one.
            data: Names the data set for real samples; by default the one that it was trained on.
            data_dir: Where IDX files are.
            num_golden: Real samples that travel; by default 32 where the data set is public.

        Raises:
            DataError: The data set that was named cannot be read; the checkpoint's own is only missed aloud.
        """
        signature = checkpoint.signature
        dataset: Dataset | None = None
        if not isinstance(signature, Signature):
            if data is not None:
                raise UsageError("--data names images, and the model takes tensors.")
            return cls(checkpoint.network(), signature, provenance=_provenance(checkpoint))
        try:
            if not (data or checkpoint.data):
                raise DataError("it is not known what the weights were trained on.")
            dataset = load(data or checkpoint.data, data_dir=data_dir, like=signature)
            if dataset.signature.image_shape != signature.image_shape:
                raise DataError(
                    f"{data or checkpoint.data} has images of {dataset.signature.image_shape}, the model takes "
                    f"{signature.image_shape}."
                )
        except DataError as error:
            if data is not None:
                raise
            dataset = None
            remark(f"no real samples for the gate, random pixels only: {error} (--data names another data set)")
        if num_golden is None:
            num_golden = NUM_GOLDEN if dataset is not None and dataset.is_public else 0
        real = dataset.test.read(slice(0, max(NUM_SAMPLES, num_golden)))[0] if dataset is not None else None
        return cls(
            network=checkpoint.network(),
            signature=signature,
            real_samples=real,
            num_golden_real=num_golden,
            provenance=_provenance(checkpoint),
        )


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
