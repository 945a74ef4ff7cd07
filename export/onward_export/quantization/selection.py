"""Selection: which nodes stay in float32 to keep the budget. It looks at images that judge nothing afterwards.

Nodes are ranked by the divergence that each causes if it alone is quantised. (Leaving one out at a time says little: it
is mostly noise.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from onward.backends import open_backend
from onward.feed import from_pixels
from onward.fidelity import Budget, Fidelity
from onward.parity import Noise, Outputs, regroup
from onward.signature import Signature
from onward.tasks import Task
from onward_export.quantization.calibration import Ranges
from onward_export.quantization.graph import quantize_graph
from onward_export.quantization.placement import name_of, place

__all__ = ["Choice", "Quantizer", "Trial", "choose_nodes"]

#: So many nodes stay in float32, tried one after the other.
COUNTS = (0, 1, 2, 4, 8, 16, 32, 64)
#: The choice is made on few images; a fifth of the budget leaves room for others.
SHARE_OF_BUDGET = 0.2
BATCH_SIZE = 64


@dataclass(frozen=True)
class Trial:
    """One choice of nodes, on the ranking images.

    Args:
        num_in_float: How many nodes stay in float32.
        kl: Mean KL divergence from the float32 model, in nats.
        agreement: The share of images for which both say the same.
    """

    num_in_float: int
    kl: float
    agreement: float

    def to_json(self) -> dict[str, Any]:
        """Every field."""
        return asdict(self)


@dataclass(frozen=True)
class Choice:
    """The nodes that stay in float32, and what was tried.

    Args:
        in_float: Their names, the most harmful first.
        trials: From no node on.
    """

    in_float: tuple[str, ...]
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Quantizer:
    """A prepared model with the ranges of its values.

    Args:
        prepared: From `prepare`.
        ranges: Of the values that `place` measures.
        weight_bits: 7 or 8.
    """

    prepared: ir.Model
    ranges: Ranges
    weight_bits: int

    @cached_property
    def nodes(self) -> list[str]:
        """Names of all nodes that can compute with integers."""
        return [name_of(node) for node in place(self.prepared).nodes]

    def quantize(self, in_float: Sequence[str] = ()) -> bytes:
        """The model, with some nodes in float32, as the bytes of an ONNX file."""
        model = quantize_graph(self.prepared, self.ranges, weight_bits=self.weight_bits, in_float=frozenset(in_float))
        return bytes(ir.to_proto(model).SerializeToString(deterministic=True))


def choose_nodes(
    quantizer: Quantizer,
    task: Task,
    signature: Signature,
    images: NDArray[np.uint8],
    *,
    noise: dict[str, Noise],
    budget: Budget,
    max_in_float: int,
    on_rank: Callable[[], None] = lambda: None,
) -> Choice:
    """The smallest number of nodes in float32 that keeps a share of the budget; else the best that was tried.

    Args:
        quantizer: What is quantised.
        task: Measures the fidelity.
        signature: Of the model.
        images: uint8 `(count, height, width, channels)`, without labels.
        noise: Of the outputs in float32.
        budget: What may be lost.
        max_in_float: The most nodes.
        on_rank: Called before nodes are ranked, which takes a trial for each.
    """
    expected = _run(ir.to_proto(quantizer.prepared).SerializeToString(), images, signature)

    def measure(in_float: Sequence[str]) -> Fidelity:
        given = _run(quantizer.quantize(in_float), images, signature)
        return task.fidelity(expected, given, None, noise, budget)

    trials: list[Trial] = []
    ranked: list[str] = []
    for count in _counts(max_in_float, len(quantizer.nodes)):
        if count and not ranked:
            on_rank()
            ranked = _rank(quantizer.nodes, measure)
        found = measure(ranked[:count])
        trials.append(Trial(count, found.kl, found.agreement))
        if _keeps(trials[-1], budget):
            break
    best = trials[-1] if _keeps(trials[-1], budget) else min(trials, key=lambda trial: trial.kl)
    return Choice(tuple(ranked[: best.num_in_float]), tuple(trials))


def _keeps(trial: Trial, budget: Budget) -> bool:
    return trial.kl <= SHARE_OF_BUDGET * budget.max_kl and trial.agreement >= budget.min_agreement


def _counts(max_in_float: int, num_nodes: int) -> Iterator[int]:
    yield from (count for count in COUNTS if count <= max_in_float and count < num_nodes)


def _rank(nodes: Sequence[str], measure: Callable[[Sequence[str]], Fidelity]) -> list[str]:
    """The nodes, the one that does most harm by itself first."""
    harm = {node: measure([other for other in nodes if other != node]).kl for node in nodes}
    return sorted(nodes, key=lambda node: -harm[node])


def _run(data: bytes, images: NDArray[np.uint8], signature: Signature) -> Outputs:
    return regroup(open_backend("onnx", data, signature).run, from_pixels(images, signature), BATCH_SIZE)
