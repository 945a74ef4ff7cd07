"""Predict: source → backend → sink, reading ahead of the model while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from runtime.backends import Backend
from runtime.feed import from_pixels
from runtime.signature import PROBABILITIES
from runtime.sinks import Sink
from runtime.sources import Failure, Source, prefetch
from runtime.tensor_signature import of_images

__all__ = ["Summary", "predict"]


@dataclass
class Summary:
    """What a run came to.

    Args:
        num_predicted: Rows written.
        failures: Inputs that gave no row.
        elapsed_s: Wall-clock seconds, from the first read to the last row.
        infer_s: Of these, inside the backend.
    """

    num_predicted: int = 0
    failures: list[Failure] = field(default_factory=list)
    elapsed_s: float = 0.0
    infer_s: float = 0.0

    @property
    def images_per_s(self) -> float:
        """Throughput of the whole run."""
        return self.num_predicted / self.elapsed_s if self.elapsed_s else 0.0

    def to_json(self) -> dict[str, Any]:
        """All figures."""
        return asdict(self) | {"num_failures": len(self.failures), "images_per_s": self.images_per_s}


def predict(
    backend: Backend,
    source: Source,
    sink: Sink,
    *,
    batch_size: int,
    on_progress: Callable[[int], None] = lambda count: None,
) -> Summary:
    """Run every input of a source through a model, rows in the order of the inputs.

    Args:
        backend: What runs the model.
        source: Where images come from.
        sink: Where rows go.
        batch_size: Images an inference.
        on_progress: Called with the number of inputs that each batch dealt with.

    Returns:
        The counts, the inputs that could not be read, and the time.
    """
    summary = Summary()
    signature = of_images(backend.signature)
    start = time.perf_counter()
    for batch in prefetch(source.batches(batch_size)):
        if len(batch.names):
            began = time.perf_counter()
            outputs = backend.run(from_pixels(batch.images, signature))
            summary.infer_s += time.perf_counter() - began
            sink.write(batch.names, outputs[PROBABILITIES])
            summary.num_predicted += len(batch.names)
        summary.failures += batch.failures
        on_progress(len(batch.names) + len(batch.failures))
    summary.elapsed_s = time.perf_counter() - start
    return summary
