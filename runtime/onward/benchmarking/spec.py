"""Spec: what to benchmark (`BenchSpec`, `Selection`) and how to measure it (`BenchOptions`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypedDict

from onward.backends import BACKENDS
from onward.backends.providers import ProviderRequest
from onward.benchmarking.custom_backend import is_custom
from onward.bundle.trust import NO_TRUST, Trust
from onward.errors import UsageError
from onward.tasks.task import LABELS_ARE

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["QUICK_BACKENDS", "BenchKeywords", "BenchOptions", "BenchSpec", "Selection"]

#: What a quick benchmark runs unless backends are named: the reference, and what runs a bundle by default.
QUICK_BACKENDS = ("torch", "onnxruntime")


@dataclass(frozen=True)
class Selection:
    """Which backends, providers and thread counts to benchmark.

    Args:
        backends: Names in `BACKENDS`, or `FILE.py:NAME`; None for every backend that can run here.
        providers: Execution providers, as in `--provider`; empty for all that the installed onnxruntime has.
        threads: Threads per inference; 0 and empty are the number of cores that this process may use.
        among: Where no backend is named, those to choose from; empty for all.
        artifacts: Names of artifacts to benchmark beside the preferred ones: one of lower precision runs only if it is
            named.

    Raises:
        ProviderError: A provider's name is unknown.
        UsageError: A backend's name is unknown, there is no backend, or a thread count is negative.
    """

    backends: Sequence[str] | None = None
    providers: Sequence[str] = ()
    threads: Sequence[int] = ()
    among: Sequence[str] = ()
    artifacts: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in self.backends or ():
            if name not in BACKENDS and not is_custom(name):
                raise UsageError(
                    f"unknown backend {name!r}: expected {', '.join(BACKENDS)}, or FILE.py:NAME for your own."
                )
        if self.backends is not None and not self.backends:
            raise UsageError("--backends is empty: name at least one backend.")
        if any(count < 0 for count in self.threads):
            raise UsageError(
                f"--threads is {', '.join(map(str, self.threads))}: expected 1 or more, or 0 for every available core."
            )
        for provider in self.providers:
            ProviderRequest.parse(provider)


@dataclass(frozen=True)
class BenchSpec:
    """What to benchmark.

    Args:
        targets: Bundles and ONNX files; with two or more, each is run on all backends and they are compared.
        selection: Backends, providers and thread counts.
        reference: What ratios are relative to: a backend, a target, or `TARGET:BACKEND`; by default PyTorch, or the
            first candidate.
        input: Inputs to measure with; by default random ones.
        sizes: Name of a dynamic axis -> its size, for ONNX files that Onward did not write.
        with_files: Whether to measure `predict` on image files, too.
        trust: What the user says about who made the bundles.
        labels_are: What labels of images are, see `onward.prediction.PredictOptions`.
    """

    targets: Sequence[str]
    selection: Selection = field(default_factory=Selection)
    reference: str | None = None
    input: str | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    with_files: bool = True
    trust: Trust = NO_TRUST
    labels_are: str | None = None

    def __post_init__(self) -> None:
        if self.labels_are not in LABELS_ARE:
            raise UsageError(f"--labels-are is {self.labels_are!r}, expected names or indices.")


@dataclass(frozen=True)
class BenchOptions:
    """How to measure.

    Args:
        batch_sizes: Inputs per inference; measured from the smallest up.
        num_process_runs: How many processes are started for each candidate, one after the other. Two processes of the
            same program differ by a few percent, depending on where their memory lies, so the precision of a ratio
            depends more on this number than on the number of rounds.
        num_rounds: Rounds per process run and batch size; in each round every candidate takes one sample, in a new
            random order. Many short samples are better than few long ones: disturbances come and go within a tenth of
            a second.
        budget_s: Seconds of samples per candidate. When all candidates have used them, the rounds end early, but not
            before the seventh.
        sample_s: Seconds that a sample lasts at least.
        max_warm_up_s: Seconds after which a warm-up ends even if inferences still get faster; the row is then unstable.
        pause_s: The pause before the inference that is timed after idling.
        timeout_s: Seconds after which a candidate that does not respond is killed.
        seed: Of the order and of random inputs.

    Raises:
        UsageError: A number is below 1.
    """

    batch_sizes: Sequence[int] = (1, 8, 32)
    num_process_runs: int = 5
    num_rounds: int = 30
    budget_s: float = 2.0
    sample_s: float = 0.03
    max_warm_up_s: float = 10.0
    pause_s: float = 1.0
    timeout_s: float = 600.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.batch_sizes or min(*self.batch_sizes, self.num_process_runs, self.num_rounds) < 1:
            raise UsageError("batch sizes, process runs and rounds must be at least 1.")
        object.__setattr__(self, "batch_sizes", tuple(sorted(set(self.batch_sizes))))

    @classmethod
    def quick(cls, **options: Unpack[BenchKeywords]) -> BenchOptions:
        """Options for a first answer: two batch sizes, three process runs of nine rounds; keywords replace some.

        Nine rounds are as many as a drift can be seen in, and with three process runs an interval is theirs.
        """
        quick: BenchKeywords = {"batch_sizes": (1, 32), "num_process_runs": 3, "num_rounds": 9, "pause_s": 0.2}
        quick.update(options)
        return cls(**quick)


class BenchKeywords(TypedDict, total=False):
    """The fields of `BenchOptions`, as keywords of a function."""

    batch_sizes: Sequence[int]
    num_process_runs: int
    num_rounds: int
    budget_s: float
    sample_s: float
    max_warm_up_s: float
    pause_s: float
    timeout_s: float
    seed: int
