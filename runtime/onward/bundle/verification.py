"""Verification: replays a bundle's golden record on this machine, without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from onward.backends import open_artifact, unavailable_reason
from onward.backends.backend import Backend
from onward.backends.providers import AnyProvider, ProviderRequest
from onward.bundle import FLOAT32, Artifact, Bundle
from onward.bundle.golden import GoldenRecord
from onward.bundle.lower_precision_record import LowerPrecisionRecord
from onward.bundle.onnx_content import read_onnx
from onward.errors import BackendError, UsageError
from onward.feed import by_name
from onward.lower_precision import FILE, KERNELS, LowerPrecisionVerdict, judge_deviations
from onward.parity import Replay, Verdict, replay
from onward.tasks import task_of

__all__ = ["Verification", "verify", "verify_backend"]


@dataclass(frozen=True)
class Verification:
    """The result for one artifact on this machine.

    Args:
        artifact: Its name.
        backend: The backend that ran it.
        verdict: The noise ratios on this machine; None where the artifact was not run, or is of lower precision.
        same_bits: Whether every output equals the building machine's, bit for bit.
        skipped: The reason why it was not run.
        requires: Libraries that it needs beside the runtime.
        precision: Of the artifact.
        lower_precision: In place of `verdict` for a lower precision than float32: whether it computes here what was
            measured when it was built.
    """

    artifact: str
    backend: str
    verdict: Verdict | None
    same_bits: bool
    skipped: str = ""
    requires: tuple[str, ...] = ()
    precision: str = FLOAT32
    lower_precision: LowerPrecisionVerdict | None = None

    @property
    def was_run(self) -> bool:
        """Whether the artifact was run."""
        return not self.skipped

    @property
    def passed(self) -> bool:
        """Whether the artifact is what it should be here; one that was not run passes.

        In float32 it must be as good as PyTorch, in a lower precision as good as it was when it was built.
        """
        verdict = self.verdict or self.lower_precision
        return verdict is None or verdict.passed

    def to_json(self) -> dict[str, Any]:
        """The one JSON form."""
        verdict = self.verdict or self.lower_precision
        return {
            "artifact": self.artifact,
            "precision": self.precision,
            "backend": self.backend,
            "passed": self.passed,
            "same_bits_as_builder": self.same_bits,
            "skipped": self.skipped or None,
            "requires": list(self.requires),
            "verdict": verdict.to_json() if verdict else None,
        }


def verify(
    bundle: Bundle, *, artifacts: Sequence[str] | None = None, provider: AnyProvider = "cpu"
) -> list[Verification]:
    """Check every digest, then measure each artifact against the float64 reference that travels in the bundle.

    An artifact of lower precision is compared with its own outputs on the building machine instead: see
    `onward.lower_precision`.

    Args:
        bundle: An opened bundle.
        artifacts: Names; by default all. Those that need PyTorch are skipped where it is not installed, and those that
            can run code where the bundle is not trusted.
        provider: For ONNX an execution provider, without a fallback; or several, `cuda,cpu`; or a request with
            options. PyTorch's artifacts run on `cpu` or `cuda`; without one of them they are skipped by default.

    Raises:
        BundleError: A file is missing or changed, or the manifest does not name it.
        BackendError: An artifact that was named cannot be run here.
        ProviderError: The provider is missing or did not take the model.
        TrustError: An artifact that was named can run code, and the bundle is not trusted.
    """
    bundle.check()
    request = ProviderRequest.of(provider)
    if artifacts is not None:
        if not artifacts:
            raise UsageError("no artifact was named to verify.")
        return [_verify_one(bundle, bundle.artifact(name), request) for name in artifacts]
    return [
        Verification(artifact.name, artifact.format, None, False, reason, artifact.requires, artifact.precision)
        if (reason := unavailable_reason(bundle, artifact, request))
        else _verify_one(bundle, artifact, request)
        for artifact in bundle.artifacts
    ]


def _verify_one(bundle: Bundle, artifact: Artifact, request: ProviderRequest) -> Verification:
    return verify_backend(bundle, artifact, open_artifact(bundle, artifact, provider=request))


def verify_backend(bundle: Bundle, artifact: Artifact, backend: Backend) -> Verification:
    """Measure one artifact with a backend that is open already.

    Raises:
        BundleError: The golden record is missing or changed.
    """
    golden = bundle.golden()
    recorded = bundle.golden_outputs(artifact.name)
    golden.check_outputs(artifact.name, recorded, bundle.signature)
    same_bits = all(
        np.array_equal(backend.run(golden.inputs[kind])[name], array, equal_nan=True)
        for kind, outputs in recorded.items()
        for name, array in outputs.items()
    )
    verdict, lower = None, None
    if artifact.is_float32:
        verdict = golden.judge(artifact.name, backend.run, task_of(bundle.signature))
    else:
        lower = _judge_lower_precision(bundle, artifact, backend)
    return Verification(
        artifact.name, backend.name, verdict, same_bits, "", artifact.requires, artifact.precision, lower
    )


def _judge_lower_precision(bundle: Bundle, artifact: Artifact, backend: Backend) -> LowerPrecisionVerdict:
    """Compare with the building machine's outputs; after a failure, tell the kernels from the file."""
    record, task = LowerPrecisionRecord.read(bundle, artifact), task_of(bundle.signature)
    rows = judge_deviations(replay(backend.run, record.golden.inputs), record.recorded, record.errors, task)
    verdict = LowerPrecisionVerdict(artifact.name, artifact.precision, rows, artifact.fidelity)
    if verdict.passed or artifact.format != "onnx":
        return verdict
    try:
        as_written = _run_as_written(bundle, artifact, record.golden)
    except BackendError:
        return verdict
    sound = all(row.passed for row in judge_deviations(as_written, record.simulation, record.errors))
    return verdict.blaming(KERNELS if sound else FILE)


def _run_as_written(bundle: Bundle, artifact: Artifact, golden: GoldenRecord) -> Replay:
    """Every kind of sample at once, by onnxruntime on the CPU without graph optimisations.

    Raises:
        BackendError: onnxruntime does not run the file.
    """
    from onward.backends.onnxruntime_backend import ORT_ERRORS, run_as_written

    data, *_ = (files := read_onnx(bundle, artifact)).values()
    beside = {PurePosixPath(path).name: content for path, content in files.items() if path != artifact.file.path}
    signature = bundle.signature
    inputs, outputs = tuple(item.name for item in signature.inputs), signature.output_names
    found = {}
    try:
        for kind, feed in golden.inputs.items():
            arrays = run_as_written(data, by_name(feed, inputs), outputs, beside)
            found[kind] = [dict(zip(outputs, arrays, strict=True))]
    except ORT_ERRORS as error:
        raise BackendError(f"onnxruntime does not run {artifact.file.path} as written: {error}") from error
    return found
