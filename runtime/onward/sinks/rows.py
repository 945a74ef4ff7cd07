"""Rows: what a model says of some consecutive inputs, and which of it is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Columns", "Rows", "rank"]


@dataclass(frozen=True)
class Columns:
    """What is written of each row.

    Args:
        labels: One per class.
        top_k: How many classes, the most probable first.
        logits: Whether all logits are written, too.
    """

    labels: tuple[str, ...]
    top_k: int = 1
    logits: bool = False

    @property
    def places(self) -> list[tuple[str, str, str]]:
        """The names of label, index and probability, for each of the k places."""
        return [("label", "index", "probability")] + [
            (f"label_{place}", f"index_{place}", f"probability_{place}") for place in range(2, self.top_k + 1)
        ]


@dataclass(frozen=True)
class Rows:
    """What a model says of some consecutive inputs.

    Args:
        names: Of those that could be read.
        probabilities: float32 `(names, classes)`.
        logits: float32 `(names, classes)`.
        places: Where each of them stands among the inputs, int `(names,)`; None where all could be read.
        num_inputs: How many inputs there were; by default as many as names.
    """

    names: Sequence[str]
    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32]
    places: NDArray[np.intp] | None = None
    num_inputs: int | None = None


def rank(probabilities: NDArray[np.float32], top_k: int) -> NDArray[np.integer]:
    """Class indices of the `top_k` largest probabilities, largest first, ties by index: `(batch, top_k)`."""
    import numpy as np

    if top_k == 1:
        best: NDArray[np.integer] = np.argmax(probabilities, 1, keepdims=True)
        return best
    return np.argsort(-probabilities, axis=1, kind="stable")[:, :top_k]
