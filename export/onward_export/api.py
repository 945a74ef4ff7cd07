"""What a program calls of this floor: export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from onward.bundle import Bundle
from onward.errors import UsageError
from onward.feed import Feed
from onward.signature import AnySignature
from onward_export.model_to_export import ModelToExport
from onward_export.options import ExportOptions
from onward_export.publish import publish
from onward_training.checkpoint import Checkpoint
from onward_training.models import as_logits_network

__all__ = ["export"]


def export(
    model: Checkpoint | nn.Module | str | Path,
    out: str | Path,
    *,
    signature: AnySignature | None = None,
    samples: Feed | None = None,
    final_activation: str = "auto",
    output: str | None = None,
    licence: str | None = None,
    **options: Any,
) -> Bundle:
    """Export a model under the parity gate.

    Args:
        model: A checkpoint, its path, or any `nn.Module` from normalised images, or from tensors, to logits; it is
            left unchanged.
        out: The bundle's folder.
        signature: What goes in and comes out: a `Signature` of images, or a `TensorSignature`. Needed for an
            `nn.Module`; of a checkpoint, it stands in for the one that it has.
        samples: For an `nn.Module`: real images for the gate, uint8 `(count, height, width, channels)`, 32 or more,
            or real tensors. They do not travel in the bundle. Without them the gate has random ones only.
        final_activation: For an `nn.Module`: its final activation, as `--final-activation` of the command.
        output: For an `nn.Module`: which of several values that it returns holds the logits.
        licence: Of the model: an SPDX expression, or any text; it travels in every file.
        options: As `onward_onward_export.options.ExportOptions` has them: `formats`, `opset`, `torchscript` …

    Raises:
        NotExportable: No reference can be made of the model, or it cannot be exported.
        ParityFailure: An artifact is further from the mathematics than PyTorch is; nothing is published.
        UsageError: An `nn.Module` without a signature.
    """
    chosen = ExportOptions(**options)
    if isinstance(model, (str, Path)):
        model = Checkpoint.load(model)
    if isinstance(model, Checkpoint):
        to_export = ModelToExport.from_checkpoint(model)
        return publish(
            replace(to_export, signature=signature or to_export.signature, licence=licence), Path(out), options=chosen
        )
    if signature is None:
        raise UsageError("an nn.Module needs a signature: what goes in, and what its outputs are called.")
    provenance = {"architecture": type(model).__name__}
    network = as_logits_network(model, signature, final_activation, output)
    return publish(
        ModelToExport(network, signature, samples, provenance=provenance, licence=licence), Path(out), options=chosen
    )
