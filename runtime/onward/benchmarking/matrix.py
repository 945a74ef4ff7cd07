"""Lineup: which competitors there are, of what was asked for and what this machine has."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from onward.backends.providers import CPU, CUDA, ProviderRequest, available_providers
from onward.benchmarking.custom_backend import is_own
from onward.benchmarking.model import Subject
from onward.benchmarking.spec import BACKENDS, Competitor
from onward.errors import UsageError
from onward.host.cpu import count_cores

__all__ = ["Lineup", "Wish", "remedy_for"]


#: Providers that onnxruntime's plain builds list and that run nothing on this machine.
REMOTE = ("AzureExecutionProvider",)
#: What brings PyTorch.
REMEDIES = {"torch": "pip install 'onward[training]'", "openvino": "pip install 'onward[openvino]'"}


@dataclass(frozen=True)
class Wish:
    """What was asked for.

    Args:
        backends: Of `BACKENDS`, or `FILE.py:NAME`; None for all that can run here.
        providers: As `--provider` has them; none for all that the installed onnxruntime has.
        threads: Of an inference; none for the cores that this process may use.
    """

    backends: Sequence[str] | None = None
    providers: Sequence[str] = ()
    threads: Sequence[int] = ()

    def __post_init__(self) -> None:
        for name in self.backends or ():
            if name not in BACKENDS and not is_own(name):
                raise UsageError(
                    f"backend {name!r} is unknown; expected {', '.join(BACKENDS)}, or FILE.py:NAME for one of yours."
                )
        if self.backends is not None and not self.backends:
            raise UsageError("no backend was named.")
        if any(count < 1 for count in self.threads):
            raise UsageError(f"--threads is {self.threads}, expected at least 1.")
        for provider in self.providers:
            ProviderRequest.parse(provider)


@dataclass(frozen=True)
class Lineup:
    """Who is timed, and who cannot be.

    Args:
        competitors: In the order that rows are shown in.
        missing: Backend -> what to install, of those that nobody asked for by name.
    """

    competitors: tuple[Competitor, ...]
    missing: Mapping[str, str]

    @classmethod
    def draw_up(cls, subjects: Mapping[str, Subject], wish: Wish) -> Lineup:
        """All targets × backends × providers × threads.

        Raises:
            UsageError: Nothing would be timed.
        """
        missing: dict[str, str] = {}
        competitors = []
        for target, subject in subjects.items():
            for backend in wish.backends or _of(subject):
                if wish.backends is None and (remedy := remedy_for(backend)):
                    missing[backend] = remedy
                    continue
                competitors += [
                    Competitor(target, backend, provider, threads)
                    for provider in _providers(backend, wish)
                    for threads in wish.threads or (count_cores(),)
                ]
        if not competitors:
            raise UsageError("there is nothing to time: no backend for any artifact is installed here.")
        return cls(tuple(competitors), missing)


def _of(subject: Subject) -> Iterator[str]:
    """Names of all backends that have a file to run."""
    return (name for name, kind in BACKENDS.items() if _has(subject, kind.format))


def _has(subject: Subject, format: str) -> bool:
    return format == "onnx" if subject.bundle is None else subject.size_bytes(format) is not None


def remedy_for(backend: str) -> str:
    """What to install before it can run; empty for nothing."""
    distribution = BACKENDS[backend].distribution if backend in BACKENDS else ""
    return REMEDIES[distribution] if distribution and importlib.util.find_spec(distribution) is None else ""


def _providers(backend: str, wish: Wish) -> Sequence[str]:
    if backend == "onnxruntime":
        return wish.providers or [
            ProviderRequest.parse(name).providers[0].short_name
            for name in reversed(available_providers())
            if name not in REMOTE
        ]
    if is_own(backend) or BACKENDS[backend].distribution != "torch":
        return ("cpu",)
    known = [text for text in wish.providers if {CPU, CUDA} & set(ProviderRequest.parse(text).names)]
    return known or (("cpu", "cuda") if _has_nvidia_driver() and not wish.providers else ("cpu",))


def _has_nvidia_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists()
