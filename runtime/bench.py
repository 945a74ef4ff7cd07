"""Bench: the artifacts of a bundle timed side by side, in interleaved rounds, in one run."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from runtime.backends import Backend, Threads, open_artifact, torch_is_installed
from runtime.bundle import Artifact, Bundle
from runtime.errors import UsageError
from runtime.feed import Feed, draw
from runtime.providers import CUDA, AnyProvider, ProviderRequest

__all__ = ["BACKENDS", "Plan", "Timing", "bench"]

#: What people ask for -> the artifact that is run. PyTorch is the .pt2's module: eager, at 0.996 of its time.
BACKENDS = {"torch": "pt2", "torchscript": "torchscript", "onnxruntime": "onnx"}
REFERENCE = "torch"
ROUND_S = 0.05
#: onnxruntime's threads spin on after an inference: without a rest PyTorch's p99 was 4.3 ms in place of 0.3 ms
#: (20 ms of rest did not help, 100 ms did).
REST_S = 0.1
NUM_POOL = 4


@dataclass(frozen=True)
class Plan:
    """How to time.

    Args:
        batch_sizes: Images an inference.
        num_rounds: Rounds; in each every backend is timed once, in a shuffled order.
        warm_up_s: Seconds of untimed inference before the first round, for each backend and batch size.
        num_threads: Of one inference.
        provider: For ONNX, and for PyTorch where it has CUDA.
        seed: Of the input pixels and of the order.
    """

    batch_sizes: tuple[int, ...] = (1, 8, 32)
    num_rounds: int = 10
    warm_up_s: float = 0.3
    num_threads: int | None = None
    provider: AnyProvider = "cpu"
    seed: int = 0


@dataclass(frozen=True)
class Timing:
    """One backend at one batch size.

    Args:
        backend: `torch`, `torchscript` or `onnxruntime`.
        batch_size: Images an inference.
        num_inferences: Timed ones, over all rounds.
        median_ms: Median latency of an inference.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile.
        images_per_s: Batch size over the median.
        ratio: Median over rounds of this backend's throughput over PyTorch's in the same round; None without it.
        deviation: Spread of the round medians: median absolute deviation over median.
        latencies_ms: Every one, in order.
    """

    backend: str
    batch_size: int
    num_inferences: int
    median_ms: float
    p90_ms: float
    p99_ms: float
    images_per_s: float
    ratio: float | None
    deviation: float
    latencies_ms: tuple[float, ...]

    def to_json(self) -> dict[str, Any]:
        """All figures but the single latencies."""
        return {key: value for key, value in asdict(self).items() if key != "latencies_ms"}


def bench(
    bundle: Bundle,
    plan: Plan | None = None,
    *,
    backends: Sequence[str] | None = None,
    on_round: Callable[[], None] = lambda: None,
) -> list[Timing]:
    """Time a bundle's artifacts beside one another.

    Inputs are drawn anew, uint8 pixels for images, several arrays taken in turn. In each round each backend runs for
    50 ms at least, after a rest and untimed inferences of its own, so that none pays for the one before.

    Args:
        bundle: An opened bundle.
        plan: How to time.
        backends: Of `torch`, `torchscript`, `onnxruntime`; by default all that this machine can run.
        on_round: Called after every round of every batch size.

    Returns:
        A row for each backend and batch size, in the order asked for.

    Raises:
        UsageError: A backend or a batch size cannot be used.
        BackendError: A backend that was named cannot run here.
    """
    plan = plan or Plan()
    if not plan.batch_sizes or min(plan.batch_sizes) < 1 or plan.num_rounds < 1:
        raise UsageError("batch sizes and rounds must be at least 1.")
    opened = {
        name: open_artifact(bundle, artifact, provider=_provider(artifact, plan), threads=Threads(plan.num_threads))
        for name, artifact in _choose(bundle, backends).items()
    }
    return [
        timing
        for batch_size in plan.batch_sizes
        for timing in _bench_batch_size(opened, bundle, plan, batch_size, on_round)
    ]


def _choose(bundle: Bundle, backends: Sequence[str] | None) -> dict[str, Artifact]:
    if backends is None:
        there = {artifact.name for artifact in bundle.artifacts}
        with_torch = torch_is_installed()
        backends = [name for name, item in BACKENDS.items() if item in there and (with_torch or item == "onnx")]
    for name in backends:
        if name not in BACKENDS:
            raise UsageError(f"backend {name!r} is unknown; expected {', '.join(BACKENDS)}.")
    return {name: bundle.artifact(BACKENDS[name]) for name in backends}


def _provider(artifact: Artifact, plan: Plan) -> AnyProvider:
    request = ProviderRequest.of(plan.provider)
    return request if artifact.format == "onnx" or CUDA in request.names else "cpu"


def _bench_batch_size(
    opened: Mapping[str, Backend], bundle: Bundle, plan: Plan, batch_size: int, on_round: Callable[[], None]
) -> list[Timing]:
    generator = np.random.default_rng(plan.seed)
    pool = [draw(bundle.signature, batch_size, generator) for _ in range(NUM_POOL)]
    for backend in opened.values():
        _time(backend, pool, plan.warm_up_s)
    order = random.Random(plan.seed)
    rounds: dict[str, list[list[float]]] = {name: [] for name in opened}
    for _ in range(plan.num_rounds):
        for name in order.sample(list(opened), len(opened)):
            time.sleep(REST_S)
            _time(opened[name], pool, ROUND_S / 5)
            rounds[name].append(_time(opened[name], pool, ROUND_S))
        on_round()
    return [_summarise(name, batch_size, rounds) for name in opened]


def _time(backend: Backend, pool: Sequence[Feed], at_least_s: float) -> list[float]:
    latencies_ms: list[float] = []
    end = time.perf_counter() + at_least_s
    now = 0.0
    while now < end:
        feed = pool[len(latencies_ms) % len(pool)]
        began = time.perf_counter()
        backend.run(feed)
        now = time.perf_counter()
        latencies_ms.append((now - began) * 1e3)
    return latencies_ms


def _summarise(name: str, batch_size: int, rounds: Mapping[str, list[list[float]]]) -> Timing:
    latencies = np.concatenate([np.asarray(one) for one in rounds[name]])
    medians = np.array([np.median(one) for one in rounds[name]])
    median_ms, p90_ms, p99_ms = np.percentile(latencies, (50, 90, 99))
    ratio = None
    if REFERENCE in rounds:
        reference = np.array([np.median(one) for one in rounds[REFERENCE]])
        ratio = float(np.median(reference / medians))
    return Timing(
        backend=name,
        batch_size=batch_size,
        num_inferences=len(latencies),
        median_ms=float(median_ms),
        p90_ms=float(p90_ms),
        p99_ms=float(p99_ms),
        images_per_s=float(batch_size / median_ms * 1e3),
        ratio=ratio,
        deviation=float(np.median(np.abs(medians - np.median(medians))) / np.median(medians)),
        latencies_ms=tuple(latencies.tolist()),
    )
