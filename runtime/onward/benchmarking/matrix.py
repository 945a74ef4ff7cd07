"""Matrix: every candidate of a selection, and which backends are not installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from onward.backends import BACKENDS
from onward.benchmarking.candidate import Candidate
from onward.benchmarking.model import ModelUnderTest
from onward.benchmarking.spec import Selection
from onward.bundle import Artifact
from onward.bundle.trust import SKIPPED, check_may_open
from onward.errors import UsageError
from onward.host.cpu import count_cores

__all__ = ["Matrix", "install_hint"]


@dataclass(frozen=True)
class Matrix:
    """What is benchmarked, and what cannot be.

    Args:
        candidates: In the order of the report's rows.
        missing: Backend -> how to install it, for those that were not asked for by name.
        untrusted: Backends that were left out because they run files with code, of bundles that are not trusted.
    """

    candidates: tuple[Candidate, ...]
    missing: Mapping[str, str]
    untrusted: tuple[str, ...] = ()

    @classmethod
    def build(cls, models: Mapping[str, ModelUnderTest], selection: Selection) -> Matrix:
        """All targets × backends × providers × thread counts, and after them those of the artifacts that were named.

        Raises:
            BundleError: No bundle has an artifact that was named.
            TrustError: A backend that was asked for by name runs a file with code of a bundle that is not trusted.
            UsageError: There is no candidate.
        """
        missing: dict[str, str] = {}
        untrusted: dict[str, None] = {}
        candidates: list[Candidate] = []
        for target, model in models.items():
            for backend in selection.backends or _backends_for(model, selection.among):
                if selection.backends is None and (hint := install_hint(backend)):
                    missing[backend] = hint
                    continue
                if not _may_run(model, backend, by_name=selection.backends is not None):
                    untrusted[backend] = None
                    continue
                candidates += _ways(target, backend, selection)
        candidates += _named_artifacts(models, selection)
        if not candidates:
            left_out = f" {', '.join(untrusted)}: {SKIPPED}." if untrusted else ""
            raise UsageError(f"nothing to benchmark: no backend for any of the artifacts is installed here.{left_out}")
        return cls(tuple(candidates), missing, tuple(untrusted))


def _ways(target: str, backend: str, selection: Selection, artifact: Artifact | None = None) -> Iterator[Candidate]:
    """A backend on each provider, with each number of threads."""
    named = () if artifact is None else (artifact.name, artifact.precision)
    for provider in _choose_providers(backend, selection):
        for threads in dict.fromkeys(count or count_cores() for count in selection.threads or (0,)):
            yield Candidate(target, backend, provider, threads, *named)


def _named_artifacts(models: Mapping[str, ModelUnderTest], selection: Selection) -> Iterator[Candidate]:
    """The artifacts that were named and do not run anyway, on every chosen backend for their format.

    Raises:
        BundleError: No bundle has one of them.
        TrustError: One can run code, and the bundle is not trusted.
        UsageError: There is no bundle, or no chosen backend runs one of them.
    """
    bundles = {target: model.bundle for target, model in models.items() if model.bundle is not None}
    if selection.artifacts and not bundles:
        raise UsageError("--artifact names an artifact of a bundle, and no bundle is benchmarked.")
    for name in dict.fromkeys(selection.artifacts):
        having = {target: bundle for target, bundle in bundles.items() if name in bundle.artifact_names}
        if not having:
            next(iter(bundles.values())).artifact(name)  # raises the error that lists the names
        for target, bundle in having.items():
            artifact = bundle.artifact(name)
            if artifact.is_float32 and artifact == bundle.preferred(artifact.format):
                continue
            check_may_open(bundle, artifact)
            found = [backend for backend in _backends_of(artifact, selection) if not install_hint(backend)]
            if not found:
                raise UsageError(f"no backend that was chosen runs the {artifact.format} artifact {name!r}.")
            for backend in found:
                yield from _ways(target, backend, selection, artifact)


def _backends_of(artifact: Artifact, selection: Selection) -> Iterator[str]:
    """The chosen backends that run an artifact's format; a custom backend runs ONNX."""
    for name in selection.backends or selection.among or BACKENDS:
        if (BACKENDS[name].format if name in BACKENDS else "onnx") == artifact.format:
            yield name


def install_hint(backend: str) -> str:
    """How to install what a backend needs; empty if nothing is missing."""
    spec = BACKENDS.get(backend)
    return "" if spec is None or spec.is_installed else spec.install_command


def _backends_for(model: ModelUnderTest, among: Sequence[str]) -> Iterator[str]:
    """Names of all backends that have a file to run."""
    return (name for name in among or BACKENDS if model.runs(BACKENDS[name].format))


def _may_run(model: ModelUnderTest, backend: str, *, by_name: bool) -> bool:
    """Whether the file that a backend runs may be opened; one that was asked for by name is an error if not."""
    spec = BACKENDS.get(backend)
    if model.bundle is None or spec is None or not model.runs(spec.format):
        return True
    if by_name:
        check_may_open(model.bundle, model.bundle.preferred(spec.format))
    return model.bundle.may_open(model.bundle.preferred(spec.format))


def _choose_providers(backend: str, selection: Selection) -> Sequence[str]:
    spec = BACKENDS.get(backend)
    return spec.choose_providers(selection.providers) if spec else ("cpu",)
