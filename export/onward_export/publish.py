"""Publish: export a network, check every artifact, and write the bundle. It is written completely or not at all."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

from onward import __version__
from onward.bundle import GOLDEN, MANIFEST, PARITY_HTML, PARITY_JSON, Artifact, Bundle, FileDigest, digest_file
from onward.bundle.golden import GoldenRecord, save_outputs
from onward.errors import UsageError
from onward.files import staged_folder
from onward.parity import CONSTANT, MAX_NOISE_RATIO
from onward_export.deployable import Deployable, make_deployable
from onward_export.formats.onnx_file import opset_of, write_onnx
from onward_export.formats.program import export_program, write_pt2
from onward_export.formats.torchscript import torchscript_in_background
from onward_export.gate import GateResult, ParityReference, check_artifact, refusal
from onward_export.model_to_export import ModelToExport
from onward_export.options import FORMATS, ExportOptions
from onward_export.passes import noise_ratio_of
from onward_export.reference import make_reference
from onward_export.reference.samples import NUM_GOLDEN, NUM_SAMPLES, RANDOM, REAL, RESIZED, gather_samples
from onward_export.report import write_parity_page

__all__ = ["publish"]


def publish(
    model: ModelToExport,
    out: Path,
    *,
    options: ExportOptions | None = None,
    num_samples: int = NUM_SAMPLES,
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Bundle:
    """Export, compare every artifact with the reference, and publish the bundle under its name.

    Args:
        model: What is exported.
        out: The bundle's folder; an existing bundle is replaced in one step.
        options: How the model is exported.
        num_samples: The number of samples of each kind in the gate.
        on_stage: Called with the name of each stage when it begins.

    Raises:
        NotExportable: The model cannot serve as a reference, or it cannot be exported.
        ParityFailure: An artifact failed; nothing is published, and a page beside `out` says why.
        OutputError: The folder cannot be written.
    """
    options = options or ExportOptions()
    _check_target(out)
    deployable = make_deployable(model.network, model.signature)
    samples = gather_samples(model.signature, model.real_samples, num_samples=num_samples)
    with staged_folder(out) as staged:
        with _tracing(deployable, model, staged, options):
            on_stage("reference in float64")
            record = make_reference(deployable, samples, model.signature).record
            reference = _write_artifacts(deployable, model, record, staged, options, on_stage)
        on_stage("parity gate")
        results = [
            check_artifact(staged / FORMATS[name], name, reference, always_explain=options.explain)
            for name in options.formats
        ]
        page = out.parent / f"{out.name}.refused.html"
        if not all(item.passed for item in results):
            # this page stays on this machine, so it may show every sample
            write_parity_page(page, _title(model), results, record=record, signature=model.signature)
            raise refusal(results, page)
        _write_records(staged, model, reference, results)
        _write_manifest(staged, model, results)
    page.unlink(missing_ok=True)  # of an earlier export that failed
    return Bundle.open(out)


def _write_artifacts(
    deployable: Deployable,
    model: ModelToExport,
    record: GoldenRecord,
    staged: Path,
    options: ExportOptions,
    on_stage: Callable[[str], None],
) -> ParityReference:
    """Write all artifacts except TorchScript, which another process writes. Returns what all are compared with."""
    program, written = None, None
    if options.formats != ("torchscript",):
        on_stage("torch.export")
        program = export_program(deployable, model.signature)
        if "onnx" in options.formats:
            on_stage("ONNX")
            measure = noise_ratio_of(record, model.signature)
            path = staged / FORMATS["onnx"]
            written = write_onnx(program, path, model.signature, _provenance(model), options, measure)
        if "pt2" in options.formats:
            on_stage(".pt2")
            write_pt2(program, staged / FORMATS["pt2"])
    if "torchscript" in options.formats:
        on_stage("TorchScript")
    counts = {REAL: model.num_golden_real, RANDOM: NUM_GOLDEN, RESIZED: NUM_GOLDEN, CONSTANT: NUM_GOLDEN}
    return ParityReference(model.signature, record, record.select(counts), deployable.state_dict(), program, written)


def _check_target(out: Path) -> None:
    if out.exists() and not (out / MANIFEST).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is not a bundle, so it is not replaced. Choose another --out.")


def _tracing(
    deployable: Deployable, model: ModelToExport, staged: Path, options: ExportOptions
) -> AbstractContextManager[None]:
    if "torchscript" not in options.formats:
        return nullcontext()
    path = staged / FORMATS["torchscript"]
    return torchscript_in_background(deployable, path, model.signature, how=options.torchscript)


def _write_records(staged: Path, model: ModelToExport, reference: ParityReference, results: list[GateResult]) -> None:
    reference.golden.save(staged / GOLDEN)
    (staged / "golden").mkdir()
    for item in results:
        save_outputs(staged / "golden" / f"{item.artifact}.npz", item.outputs)
    parity = {
        "rule": {"reference": "float64", "max_noise_ratio": MAX_NOISE_RATIO},
        "passed": all(item.passed for item in results),
        "artifacts": [item.to_json() for item in results],
    }
    (staged / PARITY_JSON).write_text(json.dumps(parity, indent=2) + "\n", encoding="utf-8")
    write_parity_page(
        staged / PARITY_HTML,
        _title(model),
        results,
        record=reference.record,
        signature=model.signature,
        num_shown={REAL: model.num_golden_real},
    )


def _write_manifest(staged: Path, model: ModelToExport, results: list[GateResult]) -> None:
    artifacts = tuple(
        Artifact(
            name=item.artifact,
            format=item.artifact,
            file=digest_file(staged, staged / FORMATS[item.artifact]),
            precision="float32",
            opset=opset_of(staged / FORMATS["onnx"]) if item.artifact == "onnx" else None,
            noise_ratio=item.verdict.noise_ratio,
        )
        for item in results
    )
    taken = {artifact.file.path for artifact in artifacts}
    files = tuple(file for file in _digests(staged) if file.path not in taken)
    bundle = Bundle(staged, model.signature, artifacts, files, _provenance(model))
    (staged / MANIFEST).write_text(json.dumps(bundle.to_json(), indent=2) + "\n", encoding="utf-8")


def _title(model: ModelToExport) -> str:
    return f"parity of {model.provenance.get('architecture', type(model.network).__name__)}"


def _digests(staged: Path) -> list[FileDigest]:
    return [digest_file(staged, path) for path in sorted(staged.rglob("*")) if path.is_file()]


def _provenance(model: ModelToExport) -> dict[str, Any]:
    packages = ("torch", "onnx", "onnxscript", "onnxruntime")
    return {
        "onward": __version__,
        **{package: version(package) for package in packages},
        "python": platform.python_version(),
        **model.provenance,
        **({"licence": model.licence} if model.licence else {}),
    }
