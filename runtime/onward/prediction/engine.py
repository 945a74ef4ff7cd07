"""Engine: runs an artifact from several threads, by the tuner's plan and within the available memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from threading import BoundedSemaphore, Lock
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from onward.backends import Threads, open_artifact
from onward.backends.backend import Backend
from onward.backends.providers import CPU, AnyProvider, ProviderRequest
from onward.bundle import Artifact, Bundle
from onward.classifier import default_batch_size
from onward.errors import BackendError
from onward.prediction.options import PredictOptions
from onward.prediction.tuner import Plan, Tuner
from onward.signature import Signature, of_images

__all__ = ["Engine", "open_engine"]


Outputs = dict[str, NDArray[np.float32]]
OUT_OF_MEMORY = re.compile(
    r"out of memory|failed to allocate|bad[_ ]alloc|not enough memory|unable to allocate|available memory of", re.I
)
#: An accelerator computes one batch while the next one is copied, and is faster with larger batches than a processor.
ACCELERATOR_STREAMS, ACCELERATOR_BATCHES = 2, 4
#: Largest first batch size: a larger one uses more memory, and gains nothing in a processor's caches. The tuner tries
#: up to so many times the first size.
MAX_BATCH, LARGER = 256, 2


def open_engine(
    bundle: Bundle, options: PredictOptions | None = None, *, artifact: str = "onnx", provider: AnyProvider = "cpu"
) -> Engine:
    """Open an artifact for a run.

    onnxruntime on a processor runs one single-threaded inference per core; each thread also decodes, so no core waits.
    An accelerator runs two inferences at a time. PyTorch's formats run one, because PyTorch's number of threads is a
    setting of the whole process.

    Args:
        bundle: The bundle.
        options: Batch size, streams and threads, if they should not be tuned.
        artifact: Its name: `onnx`, `torchscript`, `pt2`, `onnx-int8`.
        provider: As for `open_artifact`.

    Raises:
        BackendError, BundleError, ProviderError: As for `open_artifact`.
        UsageError: The model does not take images.
    """
    options = options or PredictOptions()
    signature = of_images(bundle.signature)
    chosen = bundle.artifact(artifact)
    num_cores = Threads(options.num_threads).count
    batch_size = options.batch_size or min(MAX_BATCH, default_batch_size(signature))
    arrangements: list[tuple[int, int]] = []
    if chosen.format != "onnx":
        plan = Plan(batch_size, options.streams or 1, num_cores)
    elif _runs_on_the_processor(bundle, chosen, ProviderRequest.of(provider)):
        streams = options.streams or num_cores
        plan = Plan(batch_size, streams, max(1, num_cores // streams))
        arrangements = [(1, num_cores)] if options.streams is None and num_cores > 1 else []
    else:
        factor = 1 if options.batch_size else ACCELERATOR_BATCHES
        plan = Plan(batch_size * factor, options.streams or ACCELERATOR_STREAMS, num_cores)
    return Engine(
        lambda threads: open_artifact(bundle, chosen, provider=provider, threads=Threads(threads, spin=False)),
        signature,
        Tuner(
            plan,
            largest=LARGER * plan.batch_size,
            sizes=options.batch_size is None,
            arrangements=arrangements,
        ),
        num_workers=max(num_cores, plan.streams),
        artifact=chosen,
    )


def _runs_on_the_processor(bundle: Bundle, artifact: Artifact, request: ProviderRequest) -> bool:
    """Whether the model runs on the processor; for a list that falls back on it, a session has to be opened to tell."""
    if CPU not in request.names or request.names == (CPU,):
        return CPU in request.names
    placement = open_artifact(bundle, artifact, provider=request, threads=Threads(1)).placement
    return placement is not None and placement.main == CPU


class Engine:
    """Runs one artifact from several threads.

    Args:
        open_backend: Number of threads per inference -> backend.
        signature: Inputs and outputs of the model.
        tuner: Chooses the plan of the next batch.
        num_workers: Number of threads that decode and infer.
        artifact: The artifact.
    """

    def __init__(
        self,
        open_backend: Callable[[int], Backend],
        signature: Signature,
        tuner: Tuner,
        *,
        num_workers: int,
        artifact: Artifact,
    ) -> None:
        self.open_backend = open_backend
        self.signature, self.tuner, self.num_workers, self.artifact = signature, tuner, num_workers, artifact
        self.backends: dict[int, Backend] = {}
        self.gates: dict[int, BoundedSemaphore] = {}
        self.opening = Lock()
        first = self.backend(self.plan.threads)
        self.name, self.placement = first.name, first.placement

    @property
    def plan(self) -> Plan:
        """The plan of the next batch."""
        return self.tuner.plan

    def backend(self, threads: int) -> Backend:
        """The backend with this number of threads per inference, opened at the first call."""
        with self.opening:
            if threads not in self.backends:
                self.backends[threads] = self.open_backend(threads)
            return self.backends[threads]

    def run(self, feed: NDArray[np.generic], plan: Plan | None = None) -> Outputs:
        """Run one batch; in halves if memory runs out. Several threads may call it at the same time.

        Args:
            feed: The model's one input, `(batch, …)`.
            plan: Streams and threads; by default the tuner's present plan.

        Returns:
            Output name -> array `(batch, …)`, e.g. `logits`: float32 `(batch, classes)`.

        Raises:
            BackendError: Memory is too small for a single image.
        """
        plan = plan or self.plan
        backend = self.backend(plan.threads)
        with self._gate(plan.streams):
            start = perf_counter()
            outputs = self._run(backend, feed)
            self.tuner.record(plan, len(feed), perf_counter() - start)
        return outputs

    def _run(self, backend: Backend, feed: NDArray[np.generic]) -> Outputs:
        try:
            return backend.run(feed)
        except Exception as error:  # onnxruntime's errors have no common base
            _check_is_out_of_memory(error, feed)
        return self._run_in_pieces(backend, feed)

    def _run_in_pieces(self, backend: Backend, feed: NDArray[np.generic]) -> Outputs:
        """Halve the batch until it fits into memory."""
        whole: Outputs = {}
        size, start = len(feed) // 2, 0
        while start < len(feed):
            piece = slice(start, start + size)
            try:
                outputs = backend.run(feed[piece])
            except Exception as error:
                _check_is_out_of_memory(error, feed[piece])
                size //= 2
                continue
            for name, values in outputs.items():
                whole.setdefault(name, np.empty((len(feed), *values.shape[1:]), values.dtype))[piece] = values
            start += size
        self.tuner.limit(size)
        return whole

    def _gate(self, streams: int) -> BoundedSemaphore:
        with self.opening:
            return self.gates.setdefault(streams, BoundedSemaphore(streams))


def _check_is_out_of_memory(error: Exception, feed: NDArray[np.generic]) -> None:
    """Raise any other error, and this one if the batch cannot become smaller."""
    if not (isinstance(error, MemoryError) or OUT_OF_MEMORY.search(f"{error} {error.__cause__}")):
        raise error
    if len(feed) == 1:
        raise BackendError(f"memory is too small to run the model on a single image: {error}") from error
