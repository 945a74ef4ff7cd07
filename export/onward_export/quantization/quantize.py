"""Quantise: an INT8 artifact joins a bundle, if it keeps its budget. The bundle is replaced in one step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from warnings import warn

import onnx
import onnx_ir as ir

from onward.bundle import MANIFEST, Artifact, Bundle, digest_file
from onward.bundle.bill_of_materials import BILL_OF_MATERIALS, bill_text
from onward.bundle.bundle import SIGNATURE, SIMULATION
from onward.bundle.golden import save_outputs
from onward.bundle.trust import Trust, remember
from onward.errors import NotExportable, ParityFailure, UsageError
from onward.files import staged_folder
from onward.signature import Signature
from onward.tasks import task_of
from onward_export.formats.onnx_file import opset_of
from onward_export.quantization.account import unexplained
from onward_export.quantization.calibration import measure_ranges
from onward_export.quantization.gate import CheckedFile, check_file, noise_of
from onward_export.quantization.images import QuantizationImages
from onward_export.quantization.options import ARTIFACT, INT8, QuantizeOptions
from onward_export.quantization.page import FIDELITY_HTML, write_fidelity_page
from onward_export.quantization.placement import place
from onward_export.quantization.preparation import prepare
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
    prepared = prepare(ir.from_proto(onnx.load_from_string(bundle.read(parent.file))))
    placement = place(prepared)
    if not placement.nodes:
        raise NotExportable(f"no layer of {parent.file.path} can compute with integers.")
    ranges = measure_ranges(prepared, placement.measured, images.feed(signature))
    quantizer = Quantizer(prepared, ranges, options.weight_bits)
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
        wrong = unexplained(onnx.load(path), prepared, place(prepared, choice.in_float), ranges)
        if wrong:
            raise ParityFailure(f"{FILE} is not the float32 model, rounded: {wrong[0]}")
        checked = check_file(path, ARTIFACT, bundle, parent, images, options.budget)
        if problems := checked.fidelity.problems():
            raise ParityFailure(_refusal(problems, choice))
        artifact = Artifact(
            name=ARTIFACT,
            format=parent.format,
            file=digest_file(staged, path),
            precision=INT8,
            opset=opset_of(path),
            noise_ratio=checked.noise_ratio,
            requires=parent.requires,
            parent=parent.name,
            recipe=_recipe(quantizer, choice, images, options),
            fidelity=checked.fidelity,
        )
        is_trusted = bundle.trust.covers(bundle.manifest_sha256)
        manifest_sha256 = _write_bundle(staged, bundle, artifact, checked, choice)
        if is_trusted and (reason := remember(manifest_sha256, out)):
            notify(reason)
    if is_signed:
        notify(
            "the bundle's signature was that of the bundle before, and is left out: sign it again with `onward sign`."
        )
    return Bundle.open(out, Trust(by_word=is_trusted))


def _with_metadata(data: bytes, parent: Artifact) -> bytes:
    """The file, saying what it is and what it was made from."""
    model = onnx.load_from_string(data)
    for key, value in (("onward.precision", INT8), ("onward.parent_sha256", parent.file.sha256)):
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString(deterministic=True))


def _refusal(problems: list[str], choice: Choice) -> str:
    table = "; ".join(
        f"{trial.num_in_float}: KL {trial.kl:.2g}, {trial.agreement:.1%} agree" for trial in choice.trials
    )
    return (
        f"{ARTIFACT} is over its budget, so it is not published. {' '.join(problems)} Nodes in float32, on the ranking "
        f"images: {table}. More held-out images make the bound smaller, and --max-loss allows more."
    )


def _recipe(
    quantizer: Quantizer, choice: Choice, images: QuantizationImages, options: QuantizeOptions
) -> dict[str, Any]:
    return {
        "scheme": "QDQ: activations uint8 with a zero point, weights int8 by output, biases int32",
        "weight_bits": options.weight_bits,
        "ranges": "minimum and maximum",
        "data": images.name,
        "calibration_images": len(images.calibration),
        "calibration_sha256": hashlib.sha256(images.calibration.tobytes()).hexdigest(),
        "ranking_images": len(images.ranking),
        "integer_nodes": len(quantizer.nodes()) - len(choice.in_float),
        "float32_nodes": list(choice.in_float),
        "trials": [trial.to_json() for trial in choice.trials],
    }


def _write_bundle(staged: Path, bundle: Bundle, artifact: Artifact, checked: CheckedFile, choice: Choice) -> str:
    """Write everything of the bundle beside the new file, and the manifest last; returns the manifest's digest."""
    records = {f"golden/{ARTIFACT}.npz", f"golden/{ARTIFACT}{SIMULATION}.npz", FIDELITY_HTML, BILL_OF_MATERIALS}
    artifacts = tuple(item for item in bundle.artifacts if item.name != ARTIFACT)
    kept = tuple(file for file in bundle.files if file.path not in records)
    for file in (*(item.file for item in artifacts), *kept):
        (staged / file.path).parent.mkdir(parents=True, exist_ok=True)
        (staged / file.path).write_bytes(bundle.read(file))
    save_outputs(staged / "golden" / f"{ARTIFACT}.npz", checked.outputs)
    save_outputs(staged / "golden" / f"{ARTIFACT}{SIMULATION}.npz", checked.simulated)
    whole = replace(bundle, path=staged, artifacts=(*artifacts, artifact))
    write_fidelity_page(staged / FIDELITY_HTML, whole, checked, choice)
    written = [f"golden/{ARTIFACT}.npz", f"golden/{ARTIFACT}{SIMULATION}.npz", FIDELITY_HTML]
    files = (*kept, *(digest_file(staged, staged / path) for path in written))
    whole = replace(whole, files=files)
    if any(file.path == BILL_OF_MATERIALS for file in bundle.files):
        (staged / BILL_OF_MATERIALS).write_text(bill_text(whole), encoding="utf-8")
        whole = replace(whole, files=(*files, digest_file(staged, staged / BILL_OF_MATERIALS)))
    document = whole.to_json()
    (staged / MANIFEST).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return str(document["manifest_sha256"])
