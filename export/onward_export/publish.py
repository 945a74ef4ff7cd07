"""Publish: export a network, check every artifact, and write the bundle. It is written completely or not at all."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any
from warnings import warn

from onward import __version__
from onward.bundle import GOLDEN, PARITY_HTML, PARITY_JSON, Artifact, Bundle, FileDigest, digest_file
from onward.bundle.golden import GoldenRecord, save_outputs
from onward.bundle.trust import Trust, remember
from onward.errors import NotExportable, ParityFailure
from onward.files import staged_folder
from onward.parity import CONSTANT, MAX_NOISE_RATIO
from onward_export.deployable import Deployable, make_deployable
from onward_export.failed_formats import DOES_NOT_RUN, FailedFormat, FormatAttempts
from onward_export.formats.onnx_file import opset_of, write_onnx, write_onnx_again
from onward_export.formats.program import DEPENDS_ON_DATA, export_program, write_pt2
from onward_export.formats.torchscript import torchscript_in_background
from onward_export.gate import GateResult, ParityReference, check_artifact
from onward_export.manifest import write_manifest
from onward_export.model_to_export import ModelToExport
from onward_export.opening import ArtifactProcess, Replays
from onward_export.options import FORMATS, ExportOptions
from onward_export.passes import noise_ratio_of
from onward_export.reference import make_reference, why_stop
from onward_export.reference.samples import NUM_FIRST, NUM_GOLDEN, NUM_SAMPLES, RANDOM, REAL, RESIZED, gather_samples
from onward_export.report import Method, write_parity_page
from onward_export.stages import GATE, ONNX, PT2, REFERENCE, TORCH_EXPORT, TORCHSCRIPT, StageClock
from onward_export.target import check_target, page_of_refusal
from onward_training.label_order import LabelOrder, check_label_order

__all__ = ["publish"]

#: The passes over the ONNX graph are measured on so many samples of each kind; the gate measures the file on more.
NUM_MEASURED = 4


def publish(
    model: ModelToExport,
    out: Path,
    *,
    options: ExportOptions | None = None,
    num_samples: int = NUM_SAMPLES,
    on_stage: Callable[[str], None] = lambda stage: None,
    notify: Callable[[str], None] = warn,
) -> Bundle:
    """Export, compare every artifact with the reference, and publish those that pass under the bundle's name.

    Args:
        model: What is exported.
        out: The bundle's folder; an existing bundle is replaced in one step.
        options: How the model is exported.
        num_samples: The most samples of each kind in the gate.
        on_stage: Called with the name of each stage when it begins.
        notify: Called with a remark that is no error.

    Returns:
        The bundle, opened. It is trusted here, and on this machine from now on.

    Raises:
        NotExportable: The model cannot serve as a reference, or cannot be exported to any format, or not to one that
            was asked for by name.
        ParityFailure: No artifact passed, or one failed that was asked for by name. Nothing is published, and a page
            beside `out` says why.
        OutputError: The folder cannot be written.
    """
    options = options or ExportOptions()
    check_target(out)
    deployable = make_deployable(model.network, model.signature)
    samples = gather_samples(model.signature, model.real_samples, num_samples=num_samples)
    attempts = FormatAttempts(options)
    stages = StageClock(on_stage)
    with (
        staged_folder(out) as staged,
        Replays(ArtifactProcess(options.wanted), model.signature) as replays,
        ExitStack() as tracing,
    ):
        with attempts.making("torchscript"):
            _start_tracing(tracing, deployable, model, staged, options)
        stages.begin(REFERENCE)
        num_first = None if options.thorough else NUM_FIRST
        computed = make_reference(deployable, samples, model.signature, num_first, {REAL: model.num_golden_real})
        reference = _write_artifacts(deployable, model, computed.record, staged, attempts, replays, stages)
        if "torchscript" in attempts.open:
            stages.begin(TORCHSCRIPT)
        with attempts.making("torchscript"):
            tracing.close()  # waits for the process that traces
        stages.begin(GATE)
        results = _check_artifacts(staged, reference, attempts, replays)
        while not (stop_reason := why_stop([item.verdict for item in results], computed, stages.elapsed_s)):
            stages.begin(REFERENCE)
            computed = computed.extended(2 * computed.num_samples)
            reference = replace(reference, record=computed.record, golden=_golden(computed.record, model))
            stages.begin(GATE)
            results = _check_artifacts(staged, reference, attempts, replays, results)
        reference, results = _without_costly_passes(staged, model, reference, attempts, replays, results)
        method = Method(computed.memory_formats, computed.left_out, stop_reason)
        page = page_of_refusal(out)
        try:
            published = attempts.judge(results, page)
        except ParityFailure:
            if results:  # this page stays on this machine, so it may show every sample
                write_parity_page(
                    page,
                    _title(model),
                    results,
                    record=computed.record,
                    signature=model.signature,
                    failed=attempts.failed,
                    method=method,
                )
            raise
        _write_records(staged, model, reference, published, attempts.failed, method)
        manifest_sha256 = _write_manifest(staged, model, published, attempts.options)
        if reason := remember(manifest_sha256, out):  # before it is published: a crash in between costs no trust
            notify(reason)
    if warning := _label_order(model).warning:
        notify(f"warning: {warning}")
    page.unlink(missing_ok=True)  # of an earlier export that failed
    return Bundle.open(out, Trust(by_word=True))


def _write_artifacts(
    deployable: Deployable,
    model: ModelToExport,
    record: GoldenRecord,
    staged: Path,
    attempts: FormatAttempts,
    replays: Replays,
    stages: StageClock,
) -> ParityReference:
    """Write all artifacts except TorchScript, which another process writes. Returns what all are compared with."""
    program, written = None, None
    if set(attempts.open) - {"torchscript"}:
        stages.begin(TORCH_EXPORT)
        with attempts.making("onnx", "pt2"):
            program = export_program(deployable, model.signature)
        if attempts.options.torchscript == "trace" and attempts.reason("pt2").startswith(DEPENDS_ON_DATA):
            with attempts.making("torchscript"):
                raise NotExportable(attempts.reason("pt2"))  # a trace records the branch that its example takes
    golden = _golden(record, model)
    if program is not None and "pt2" in attempts.open:
        stages.begin(PT2)
        with attempts.making("pt2"):
            write_pt2(program, staged / FORMATS["pt2"])
            replays.begin("pt2", staged / FORMATS["pt2"], record.inputs, golden.inputs)  # while ONNX is written
    if program is not None and "onnx" in attempts.open:
        stages.begin(ONNX)
        few = record.select(dict.fromkeys((REAL, RANDOM, RESIZED), NUM_MEASURED))
        measure = noise_ratio_of(few, model.signature, replays.process)
        path = staged / FORMATS["onnx"]
        with attempts.making("onnx"):
            written = write_onnx(program, path, model.signature, _provenance(model), attempts.options, measure)
    return ParityReference(
        signature=model.signature,
        record=record,
        golden=golden,
        expected=deployable.state_dict(),
        buffers=dict(deployable.named_buffers(remove_duplicate=False)),
        program=program,
        written=written,
    )


def _golden(record: GoldenRecord, model: ModelToExport) -> GoldenRecord:
    """The part of the record that is stored in the bundle."""
    counts = {REAL: model.num_golden_real, RANDOM: NUM_GOLDEN, RESIZED: NUM_GOLDEN, CONSTANT: NUM_GOLDEN}
    return record.select(counts)


def _check_artifacts(
    staged: Path,
    reference: ParityReference,
    attempts: FormatAttempts,
    replays: Replays,
    before: Sequence[GateResult] = (),
) -> list[GateResult]:
    """The gate's results of all artifacts that were made and run.

    `before` has the results on fewer samples, whose weights need no second account.
    """
    weights = {item.artifact: item.weights for item in before}
    for name in attempts.open:
        if not replays.is_begun(name):
            replays.begin(name, staged / FORMATS[name], reference.record.inputs, reference.golden.inputs)
    results = []
    for name in attempts.open:
        try:
            results.append(
                check_artifact(
                    staged / FORMATS[name],
                    name,
                    reference,
                    replays,
                    always_explain=attempts.options.explain,
                    weights=weights.get(name),
                )
            )
        except ParityFailure as error:
            attempts.fail([name], DOES_NOT_RUN, error)
    return results


def _without_costly_passes(
    staged: Path,
    model: ModelToExport,
    reference: ParityReference,
    attempts: FormatAttempts,
    replays: Replays,
    results: list[GateResult],
) -> tuple[ParityReference, list[GateResult]]:
    """If the ONNX file failed, write and check it again, its passes measured on all samples of the gate.

    The few samples on which passes are measured at first may not show what a pass costs.
    """
    written = reference.written
    failed = any(item.artifact == "onnx" and not item.verdict.passed for item in results)
    if not failed or written is None or all(item.noise_ratio_after is None for item in written.passes):
        return reference, results
    measure = noise_ratio_of(reference.record, model.signature, replays.process)
    path = staged / FORMATS["onnx"]
    again = write_onnx_again(written, path, model.signature, _provenance(model), attempts.options, measure)
    if [item.was_kept for item in again.passes] == [item.was_kept for item in written.passes]:
        return reference, results
    reference = replace(reference, written=again)
    return reference, _check_artifacts(staged, reference, attempts, replays)


def _start_tracing(
    tracing: ExitStack, deployable: Deployable, model: ModelToExport, staged: Path, options: ExportOptions
) -> None:
    if "torchscript" in options.wanted:
        path = staged / FORMATS["torchscript"]
        tracing.enter_context(torchscript_in_background(deployable, path, model.signature, how=options.torchscript))


def _write_records(
    staged: Path,
    model: ModelToExport,
    reference: ParityReference,
    results: list[GateResult],
    failed: list[FailedFormat],
    method: Method,
) -> None:
    for missing in failed:
        for path in staged.glob(f"{FORMATS[missing.format]}*"):
            path.unlink()
    reference.golden.save(staged / GOLDEN)
    (staged / "golden").mkdir()
    for item in results:
        save_outputs(staged / "golden" / f"{item.artifact}.npz", item.outputs)
    parity = {
        "rule": {"reference": "float64", "max_noise_ratio": MAX_NOISE_RATIO},
        "passed": all(item.passed for item in results),
        "artifacts": [item.to_json() for item in results],
        "not_published": [item.to_json() for item in failed],
        "method": method.to_json(),
        "label_order": _label_order(model).to_json(),
    }
    (staged / PARITY_JSON).write_text(json.dumps(parity, indent=2) + "\n", encoding="utf-8")
    write_parity_page(
        staged / PARITY_HTML,
        _title(model),
        results,
        record=reference.record,
        signature=model.signature,
        num_shown={REAL: model.num_golden_real},
        failed=failed,
        method=method,
    )


def _label_order(model: ModelToExport) -> LabelOrder:
    """What is known of the order of the labels: by labelled images, or by the labels alone."""
    return model.label_order or check_label_order(model.signature.labels)


def _write_manifest(staged: Path, model: ModelToExport, results: list[GateResult], options: ExportOptions) -> str:
    """Write the manifest of the artifacts that passed; returns its digest."""
    artifacts = tuple(
        Artifact(
            name=item.artifact,
            format=item.artifact,
            file=digest_file(staged, staged / FORMATS[item.artifact]),
            precision="float32",
            opset=opset_of(staged / FORMATS["onnx"]) if item.artifact == "onnx" else None,
            noise_ratio=item.verdict.noise_ratio,
            requires=item.requires,
        )
        for item in results
    )
    taken = {artifact.file.path for artifact in artifacts}
    files = tuple(file for file in _digests(staged) if file.path not in taken)
    bundle = Bundle(staged, model.signature, artifacts, files, _provenance(model))
    return write_manifest(bundle, bill_of_materials=options.bill_of_materials)


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
