"""Rows: what a model says of some consecutive inputs, and which of it is written.

Sink: turns rows into bytes that are appended to a file, which is made whole at the end.

A file that is only ever appended to can be cut back to any point at which all of it was on the disk: that is what
lets a run go on after a crash, whatever the format.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Columns", "Rows", "Sink", "rank"]


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


class Sink(Protocol):
    """One format of output."""

    def begin(self) -> bytes:
        """What stands before the first row."""

    def encode(self, rows: Rows) -> bytes:
        """The bytes of some rows; of two parts they are those of the one and then of the other."""

    def finish(self, staged: Path, num_inputs: int) -> Path:
        """Make a file whole to which everything was appended.

        It may be called again after a crash, on a file that it was called on before.

        Args:
            staged: The file.
            num_inputs: How many inputs there were.

        Returns:
            The whole file: this one, or another one beside it.
        """
