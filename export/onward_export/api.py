"""The Python interface of this floor: `onward.export` and `onward.quantize`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from torch import nn

from onward.bundle import Bundle
from onward.errors import UsageError
from onward.feed import Feed
from onward.signature import AnySignature
from onward_export.model_to_export import ModelToExport
from onward_export.options import ExportOptions
from onward_export.publish import publish
from onward_export.target import check_target
from onward_training.checkpoint import Checkpoint
from onward_training.tasks import network_task_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from onward_export.options import ExportKeywords
    from onward_export.quantization import QuantizeKeywords

__all__ = ["export", "quantize"]


def export(
    model: Checkpoint | nn.Module | str | Path,
    out: str | Path,
    *,
    signature: AnySignature | None = None,
    samples: Feed | None = None,
    final_activation: str = "auto",
    output: str | None = None,
    licence: str | None = None,
    overwrite: bool = False,
    **options: Unpack[ExportKeywords],
) -> Bundle:
    """Export a model under the parity gate.

    Args:
        model: A checkpoint, its path, or any `nn.Module` that maps normalised images, or tensors, to logits. It is not
            changed.
        out: The bundle's folder.
        signature: The inputs and outputs: a `Signature` for images, or a `TensorSignature`. Required for an
            `nn.Module`; for a checkpoint it replaces the checkpoint's own.
        samples: For an `nn.Module`: real images for the gate, uint8 `(count, height, width, channels)`, 32 or more,
            or real tensors. They are not stored in the bundle. Without them the gate uses random samples only.
        final_activation: For an `nn.Module`: its final activation, as `--final-activation` of the command.
        output: For an `nn.Module` that returns several values: the key, attribute or index of the logits.
        licence: The model's licence: an SPDX expression or any text. It is stored in every file.
        overwrite: Replace the bundle at `out`; without it, one that is there is an error.
        options: The fields of `onward_export.options.ExportOptions`: `formats`, `opset`, `torchscript` …

    Raises:
        NotExportable: The model cannot serve as a reference, or it cannot be exported.
        ParityFailure: An artifact failed the gate; nothing is published.
        UsageError: An `nn.Module` was given without a signature, or `out` exists.
    """
    chosen = ExportOptions(**options)
    check_target(Path(out), overwrite=overwrite)
    if isinstance(model, (str, Path)):
        model = Checkpoint.load(model)
    if isinstance(model, Checkpoint):
        to_export = ModelToExport.from_checkpoint(model)
        if signature is not None and signature.labels != to_export.signature.labels:
            to_export = replace(to_export, label_order=None)  # it is that of other labels
        return publish(
            replace(to_export, signature=signature or to_export.signature, licence=licence), Path(out), options=chosen
        )
    if signature is None:
        raise UsageError(
            "an nn.Module needs a signature: pass `signature=`, a Signature for images or a TensorSignature."
        )
    provenance = {"architecture": type(model).__name__}
    network = network_task_of(signature).adapt(model, final_activation, output)
    return publish(
        ModelToExport(network, signature, samples, provenance=provenance, licence=licence), Path(out), options=chosen
    )


def quantize(
    bundle: Bundle | str | Path,
    data: str | None = None,
    *,
    images: Sequence[str | Path] = (),
    data_dir: Path | None = None,
    out: str | Path | None = None,
    overwrite: bool = False,
    **options: Unpack[QuantizeKeywords],
) -> Bundle:
    """Add an INT8 artifact to a bundle, if held-out images prove that the task loses no more than the budget.

    Args:
        bundle: A bundle with an ONNX file, or its folder.
        data: A data set as in `--data`: training images calibrate, validation and test images judge. By default the one
            that the model was trained on, if its name alone finds it.
        images: In place of `data`: folders, files and tables of images without labels. What accuracy is lost is
            unknown then.
        data_dir: The folder of IDX files.
        out: The new bundle's folder; by default the same bundle.
        overwrite: Whether an INT8 artifact that is there may be made anew, or another bundle at `out` replaced.
        options: The fields of `onward_export.quantization.QuantizeOptions`: `weight_bits`, `budget` …

    Raises:
        DataError: The images cannot be read, or are too few.
        NotExportable: Nothing of the model has integer kernels.
        ParityFailure: The artifact is over its budget. Nothing is published.
        UsageError: No data is given or known, the model takes no images, or something would be overwritten.
    """
    from onward_export.quantization import QuantizeOptions
    from onward_export.quantization.images import QuantizationImages
    from onward_export.quantization.quantize import quantize_bundle
    from onward_export.quantization.target import check_quantize_target

    chosen = QuantizeOptions(**options)
    opened = bundle if isinstance(bundle, Bundle) else Bundle.open(bundle)
    target = opened.path if out is None else Path(out)
    check_quantize_target(opened, target, overwrite)
    found = QuantizationImages.find(opened, data, images, chosen, data_dir)
    return quantize_bundle(opened, found, out=target, overwrite=overwrite, options=chosen)
