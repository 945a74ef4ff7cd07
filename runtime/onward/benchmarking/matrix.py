"""Matrix: every candidate of a selection, and which backends are not installed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from onward.backends import BACKENDS
from onward.benchmarking.candidate import Candidate
from onward.benchmarking.model import ModelUnderTest
from onward.benchmarking.spec import Selection
from onward.errors import UsageError
from onward.host.cpu import count_cores

__all__ = ["Matrix", "install_hint"]


@dataclass(frozen=True)
class Matrix:
    """What is benchmarked, and what cannot be.

    Args:
        candidates: In the order of the report's rows.
        missing: Backend -> how to install it, for those that were not asked for by name.
    """

    candidates: tuple[Candidate, ...]
    missing: Mapping[str, str]

    @classmethod
    def build(cls, models: Mapping[str, ModelUnderTest], selection: Selection) -> Matrix:
        """All targets × backends × providers × thread counts.

        Raises:
            UsageError: There is no candidate.
        """
        missing: dict[str, str] = {}
        candidates = []
        for target, model in models.items():
            for backend in selection.backends or _backends_for(model):
                if selection.backends is None and (hint := install_hint(backend)):
                    missing[backend] = hint
                    continue
                candidates += [
                    Candidate(target, backend, provider, threads)
                    for provider in _choose_providers(backend, selection)
                    for threads in selection.threads or (count_cores(),)
                ]
        if not candidates:
            raise UsageError("nothing to benchmark: no backend for any of the artifacts is installed here.")
        return cls(tuple(candidates), missing)


def install_hint(backend: str) -> str:
    """How to install what a backend needs; empty if nothing is missing."""
    spec = BACKENDS.get(backend)
    return "" if spec is None or spec.is_installed else spec.install_command


def _backends_for(model: ModelUnderTest) -> Iterator[str]:
    """Names of all backends that have a file to run."""
    return (name for name, spec in BACKENDS.items() if model.size_bytes(spec.format) is not None)


def _choose_providers(backend: str, selection: Selection) -> Sequence[str]:
    spec = BACKENDS.get(backend)
    return spec.choose_providers(selection.providers) if spec else ("cpu",)
