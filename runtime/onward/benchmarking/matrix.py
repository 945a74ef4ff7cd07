"""Matrix: every candidate of a selection, and which backends are not installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from onward.backends import BACKENDS
from onward.benchmarking.candidate import Candidate
from onward.benchmarking.model import ModelUnderTest
from onward.benchmarking.spec import Selection
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
        """All targets × backends × providers × thread counts.

        Raises:
            TrustError: A backend that was asked for by name runs a file with code of a bundle that is not trusted.
            UsageError: There is no candidate.
        """
        missing: dict[str, str] = {}
        untrusted: dict[str, None] = {}
        candidates = []
        for target, model in models.items():
            for backend in selection.backends or _backends_for(model, selection.among):
                if selection.backends is None and (hint := install_hint(backend)):
                    missing[backend] = hint
                    continue
                if not _may_run(model, backend, by_name=selection.backends is not None):
                    untrusted[backend] = None
                    continue
                candidates += [
                    Candidate(target, backend, provider, threads)
                    for provider in _choose_providers(backend, selection)
                    for threads in dict.fromkeys(count or count_cores() for count in selection.threads or (0,))
                ]
        if not candidates:
            left_out = f" {', '.join(untrusted)}: {SKIPPED}." if untrusted else ""
            raise UsageError(f"nothing to benchmark: no backend for any of the artifacts is installed here.{left_out}")
        return cls(tuple(candidates), missing, tuple(untrusted))


def install_hint(backend: str) -> str:
    """How to install what a backend needs; empty if nothing is missing."""
    spec = BACKENDS.get(backend)
    return "" if spec is None or spec.is_installed else spec.install_command


def _backends_for(model: ModelUnderTest, among: Sequence[str]) -> Iterator[str]:
    """Names of all backends that have a file to run."""
    return (name for name in among or BACKENDS if model.size_bytes(BACKENDS[name].format) is not None)


def _may_run(model: ModelUnderTest, backend: str, *, by_name: bool) -> bool:
    """Whether the file that a backend runs may be opened; one that was asked for by name is an error if not."""
    spec = BACKENDS.get(backend)
    if model.bundle is None or spec is None or model.size_bytes(spec.format) is None:
        return True
    if by_name:
        check_may_open(model.bundle, model.bundle.preferred(spec.format))
    return model.bundle.may_open(model.bundle.preferred(spec.format))


def _choose_providers(backend: str, selection: Selection) -> Sequence[str]:
    spec = BACKENDS.get(backend)
    return spec.choose_providers(selection.providers) if spec else ("cpu",)
