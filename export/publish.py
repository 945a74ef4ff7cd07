"""Publish: a network becomes a bundle, written whole behind the gate or not at all."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from export.deployable import Deployable
from export.formats.onnx_file import opset_of, write_onnx
from export.formats.program import export_program, write_pt2
from export.formats.torchscript import torchscript_beside
from export.gate import Examination, examine, refusal
from export.reference import make_reference
from export.report import write_parity_page
from export.samples import NUM_GOLDEN, RANDOM, REAL, gather
from runtime import __version__
from runtime.bundle import GOLDEN, MANIFEST, PARITY_HTML, PARITY_JSON, Artifact, Bundle, FileDigest, digest_file
from runtime.errors import UsageError
from runtime.files import staged_folder
from runtime.golden import GoldenRecord, save_outputs
from runtime.parity import CONSTANT, MAX_NOISE_RATIO
from runtime.signature import Signature

__all__ = ["FORMATS", "Source", "publish"]

#: In order of preference where a bundle is run.
FORMATS = {"onnx": "model.onnx", "torchscript": "model.torchscript", "pt2": "model.pt2"}


@dataclass(frozen=True)
class Source:
    """What is published.

    Args:
        network: Takes float32 `(batch, channels, height, width)`, gives logits `(batch, classes)`.
        signature: What goes in and what comes out.
        real_samples: Real images, uint8 `(count, height, width, channels)`, for the gate; None where there are
            none.
        num_golden_real: How many of them travel in the bundle. Somebody's pictures do not, unless they say so.
        provenance: Where the weights come from: text and numbers, no paths.
    """

    network: nn.Module
    signature: Signature
    real_samples: NDArray[np.uint8] | None = None
    num_golden_real: int = 0
    provenance: Mapping[str, Any] = field(default_factory=dict)


def publish(
    source: Source,
    out: Path,
    *,
    formats: tuple[str, ...] = tuple(FORMATS),
    on_stage: Callable[[str], None] = lambda stage: None,
) -> Bundle:
    """Export, hold every artifact against the reference, and publish the bundle under its name.

    Args:
        source: What is published.
        out: The bundle's folder; one that stands there is replaced in one step.
        formats: Of `FORMATS`.
        on_stage: Called with the name of each stage as it begins.

    Raises:
        NotExportable: No reference can be made of the model, or it cannot be exported.
        ParityFailure: An artifact did not pass; nothing is published, and a page beside `out` says why.
        OutputError: The place cannot be written to, or is full.
    """
    _check_target(out, formats)
    deployable = Deployable(source.network, source.signature)
    with staged_folder(out) as staged:
        with _tracing(deployable, source, staged, formats):
            on_stage("reference in float64")
            record = make_reference(
                deployable, gather(source.signature, source.real_samples), source.signature.num_classes
            )
            on_stage("torch.export")
            program = export_program(deployable, source.signature)
            if "onnx" in formats:
                on_stage("ONNX")
                write_onnx(program, staged / FORMATS["onnx"], source.signature, _provenance(source))
            if "pt2" in formats:
                on_stage(".pt2")
                write_pt2(program, staged / FORMATS["pt2"])
            if "torchscript" in formats:
                on_stage("TorchScript")
        on_stage("parity gate")
        golden = record.select({REAL: source.num_golden_real, RANDOM: NUM_GOLDEN, CONSTANT: NUM_GOLDEN})
        examinations = [
            examine(
                staged / FORMATS[name],
                name,
                signature=source.signature,
                record=record,
                golden=golden,
                expected=deployable.state_dict(),
                program=program,
            )
            for name in formats
        ]
        page = out.parent / f"{out.name}.refused.html"
        if not all(item.passed for item in examinations):
            # it stays on this machine: all that the gate saw may be shown
            write_parity_page(page, _title(source), examinations, record=record, labels=source.signature.labels)
            raise refusal(examinations, page)
        _write_records(staged, source, record, golden, examinations)
        _write_manifest(staged, source, examinations)
    page.unlink(missing_ok=True)  # of an earlier try
    return Bundle.open(out)


def _check_target(out: Path, formats: tuple[str, ...]) -> None:
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        raise UsageError(f"format {', '.join(unknown) or 'none'} is unknown; there are {', '.join(FORMATS)}.")
    if out.exists() and not (out / MANIFEST).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is no bundle; it is left alone. Choose another --out.")


def _tracing(
    deployable: Deployable, source: Source, staged: Path, formats: tuple[str, ...]
) -> AbstractContextManager[None]:
    if "torchscript" not in formats:
        return nullcontext()
    return torchscript_beside(deployable, staged / FORMATS["torchscript"], source.signature)


def _write_records(
    staged: Path, source: Source, record: GoldenRecord, golden: GoldenRecord, examinations: list[Examination]
) -> None:
    golden.save(staged / GOLDEN)
    (staged / "golden").mkdir()
    for item in examinations:
        save_outputs(staged / "golden" / f"{item.artifact}.npz", item.outputs)
    parity = {
        "rule": {"reference": "float64", "max_noise_ratio": MAX_NOISE_RATIO},
        "passed": all(item.passed for item in examinations),
        "artifacts": [item.to_json() for item in examinations],
    }
    (staged / PARITY_JSON).write_text(json.dumps(parity, indent=2) + "\n", encoding="utf-8")
    write_parity_page(
        staged / PARITY_HTML,
        _title(source),
        examinations,
        record=record,
        labels=source.signature.labels,
        num_shown={REAL: source.num_golden_real},
    )


def _write_manifest(staged: Path, source: Source, examinations: list[Examination]) -> None:
    artifacts = tuple(
        Artifact(
            name=item.artifact,
            format=item.artifact,
            file=digest_file(staged, staged / FORMATS[item.artifact]),
            precision="float32",
            opset=opset_of(staged / FORMATS["onnx"]) if item.artifact == "onnx" else None,
            noise_ratio=item.verdict.noise_ratio,
        )
        for item in examinations
    )
    taken = {artifact.file.path for artifact in artifacts}
    files = tuple(file for file in _digests(staged) if file.path not in taken)
    bundle = Bundle(staged, source.signature, artifacts, files, _provenance(source))
    (staged / MANIFEST).write_text(json.dumps(bundle.to_json(), indent=2) + "\n", encoding="utf-8")


def _title(source: Source) -> str:
    return f"parity of {source.provenance.get('architecture', type(source.network).__name__)}"


def _digests(staged: Path) -> list[FileDigest]:
    return [digest_file(staged, path) for path in sorted(staged.rglob("*")) if path.is_file()]


def _provenance(source: Source) -> dict[str, Any]:
    packages = ("torch", "onnx", "onnxscript", "onnxruntime")
    return {
        "onward": __version__,
        **{package: version(package) for package in packages},
        "python": platform.python_version(),
        **source.provenance,
    }
