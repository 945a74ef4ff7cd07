"""Quantise: an INT8 artifact joins a bundle, if it keeps its budget. The bundle is replaced in one step."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from warnings import warn

import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from onward.bundle import Artifact, Bundle, digest_file
from onward.bundle.bundle import SIGNATURE
from onward.bundle.trust import Trust, remember
from onward.errors import NotExportable, UsageError
from onward.files import staged_folder
from onward.signature import Signature
from onward.tasks import task_of
from onward_export.formats.onnx_file import opset_of
from onward_export.quantization.calibration import measure_ranges
from onward_export.quantization.gate import check_file, noise_of
from onward_export.quantization.images import QuantizationImages
from onward_export.quantization.integers import WeightBits
from onward_export.quantization.options import ARTIFACT, INT8, QuantizeOptions
from onward_export.quantization.placement import place
from onward_export.quantization.preparation import prepare
from onward_export.quantization.publication import write_bundle
from onward_export.quantization.selection import Choice, Quantizer, choose_nodes
from onward_export.quantization.target import check_quantize_target

__all__ = ["CALIBRATION", "FIDELITY", "RANKING", "TRIAL", "quantize_bundle"]

FILE = f"model.{INT8}.onnx"
#: Stages, for progress.
CALIBRATION, TRIAL, RANKING, FIDELITY = "calibration", "trial", "ranking of nodes", "fidelity gate"


def quantize_bundle(
    bundle: Bundle,
    images: QuantizationImages,
    *,
    out: Path | None = None,
    overwrite: bool = False,
    options: QuantizeOptions | None = None,
    on_stage: Callable[[str], None] = lambda stage: None,
    notify: Callable[[str], None] = warn,
) -> Bundle:
    """Make an INT8 artifact of a bundle's ONNX file, judge it, and publish the bundle with it.

    Args:
        bundle: An opened bundle with an ONNX artifact.
        images: For calibration, for choosing nodes, and for the verdict.
        out: Where the bundle is written; by default where it is.
        overwrite: Whether an INT8 artifact that is there may be made anew, or another bundle at `out` replaced.
        options: How the artifact is made, and what it may lose.
        on_stage: Called with the name of each stage when it begins.
        notify: Called with a remark that is no error.

    Returns:
        The bundle, opened.

    Raises:
        NotExportable: Nothing of the model has integer kernels, or its values are not finite.
        ParityFailure: The artifact is over its budget, or its file or kernels are wrong. Nothing is published.
        UsageError: The model takes no images, or something would be overwritten.
    """
    options, out = options or QuantizeOptions(), out or bundle.path
    signature, parent = bundle.signature, bundle.preferred("onnx")
    if not isinstance(signature, Signature):
        raise UsageError("only models that take images can be quantised: calibration needs images.")
    if bundle.beside(parent):
        raise UsageError(
            f"{parent.file.path} keeps its weights in a second file; such a model cannot be quantised yet."
        )
    check_quantize_target(bundle, out, overwrite)
    is_signed = (bundle.path / SIGNATURE).is_file()
    on_stage(CALIBRATION)
    quantizer = _calibrate(bundle, parent, images.feed(signature), options.weight_bits)
    on_stage(TRIAL)
    choice = choose_nodes(
        quantizer,
        task_of(signature),
        signature,
        images.ranking,
        noise=noise_of(bundle.golden()),
        budget=options.budget,
        max_in_float=options.max_in_float,
        on_rank=lambda: on_stage(RANKING),
    )
    on_stage(FIDELITY)
    with staged_folder(out) as staged:
        path = staged / FILE
        path.write_bytes(_with_metadata(quantizer.quantize(choice.in_float), parent))
        checked = check_file(path, quantizer, choice, bundle, parent, images, options.budget)
        artifact = Artifact(
            name=ARTIFACT,
            format=parent.format,
            file=digest_file(staged, path),
            precision=INT8,
            opset=opset_of(path),
            noise_ratio=checked.noise_ratio,
            requires=parent.requires,
            parent=parent.name,
            recipe=_recipe(quantizer, choice, images),
            fidelity=checked.fidelity,
        )
        is_trusted = bundle.trust.covers(bundle.manifest_sha256)
        manifest_sha256 = write_bundle(staged, bundle, artifact, checked, choice)
        if is_trusted and (reason := remember(manifest_sha256, out)):
            notify(reason)
    if is_signed:
        notify("the signature was that of the bundle before, and is left out: sign it again with `onward sign`.")
    return Bundle.open(out, Trust(by_word=is_trusted))


def _calibrate(bundle: Bundle, parent: Artifact, images: NDArray[Any], weight_bits: WeightBits) -> Quantizer:
    """The float32 file, prepared, with the ranges of its values on these images, as the model takes them."""
    prepared = prepare(ir.from_proto(onnx.load_from_string(bundle.read(parent.file))))
    placement = place(prepared)
    if not placement.nodes:
        raise NotExportable(f"no layer of {parent.file.path} can compute with integers.")
    return Quantizer(prepared, measure_ranges(prepared, placement.measured, images), weight_bits)


def _with_metadata(data: bytes, parent: Artifact) -> bytes:
    """The file, saying what it is and what it was made from."""
    model = onnx.load_from_string(data)
    for key, value in (("onward.precision", INT8), ("onward.parent_sha256", parent.file.sha256)):
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _recipe(quantizer: Quantizer, choice: Choice, images: QuantizationImages) -> dict[str, Any]:
    return {
        "scheme": "QDQ: activations uint8 with a zero point, weights int8 by output, biases int32",
        "weight_bits": quantizer.weight_bits,
        "ranges": "minimum and maximum",
        "data": images.name,
        "calibration_images": len(images.calibration),
        "calibration_sha256": hashlib.sha256(images.calibration.tobytes()).hexdigest(),
        "ranking_images": len(images.ranking),
        "integer_nodes": len(quantizer.nodes) - len(choice.in_float),
        "float32_nodes": list(choice.in_float),
        "trials": [trial.to_json() for trial in choice.trials],
    }
