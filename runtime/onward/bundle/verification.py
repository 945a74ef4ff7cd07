"""Verification: replays a bundle's golden record on this machine, without PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onward.backends import open_artifact, unavailable_reason
from onward.backends.backend import Backend
from onward.backends.providers import AnyProvider, ProviderRequest
from onward.bundle import Artifact, Bundle
from onward.errors import UsageError
from onward.parity import Verdict
from onward.tasks import task_of

__all__ = ["Verification", "verify", "verify_backend"]


@dataclass(frozen=True)
class Verification:
    """The result for one artifact on this machine.

    Args:
        artifact: Its name.
        backend: The backend that ran it.
        verdict: The noise ratios on this machine; None where the artifact was not run.
        same_bits: Whether every output equals the building machine's, bit for bit.
        skipped: The reason why it was not run.
        requires: Libraries that it needs beside the runtime.
    """

    artifact: str
    backend: str
    verdict: Verdict | None
    same_bits: bool
    skipped: str = ""
    requires: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether the artifact is as good as PyTorch here; one that was not run passes."""
        return self.verdict is None or self.verdict.passed

    def to_json(self) -> dict[str, Any]:
        """The one JSON form."""
        return {
            "artifact": self.artifact,
            "backend": self.backend,
            "passed": self.passed,
            "same_bits_as_builder": self.same_bits,
            "skipped": self.skipped or None,
            "requires": list(self.requires),
            "verdict": self.verdict.to_json() if self.verdict else None,
        }


def verify(
    bundle: Bundle, *, artifacts: Sequence[str] | None = None, provider: AnyProvider = "cpu"
) -> list[Verification]:
    """Check every digest, then measure each artifact against the float64 reference that travels in the bundle.

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
        Verification(artifact.name, artifact.format, None, False, reason, artifact.requires)
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
    verdict = golden.judge(artifact.name, backend.run, task_of(bundle.signature))
    return Verification(artifact.name, backend.name, verdict, same_bits, requires=artifact.requires)
