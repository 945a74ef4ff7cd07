"""Backend: an opened artifact. `open → run(feed) → outputs`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.backends.placement import Placement
from onward.errors import BackendError, OnwardError, reason_of
from onward.feed import Feed, by_name, check_feed
from onward.signature import AnySignature

__all__ = ["Backend"]


class Backend(ABC):
    """Runs one artifact. A subclass says how `infer` works; it may be called from several threads at once.

    Attributes:
        signature: What the model takes and gives; None for an ONNX file that was opened without one.
        inputs: Names of the inputs, in the model's order.
        outputs: Names of what `infer` gives: the signature's, or the file's own names without a signature.
        num_threads: How many threads one inference may use.
    """

    signature: AnySignature | None
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    num_threads: int

    @property
    @abstractmethod
    def name(self) -> str:
        """The format, what runs it if that is not the preferred backend of the format, and the device."""

    @property
    def placement(self) -> Placement | None:
        """Which execution provider runs which nodes; None where a backend has no execution providers."""
        return None

    def run(self, feed: Feed) -> dict[str, NDArray[np.float32]]:
        """Run one batch.

        Args:
            feed: Input name -> array; dtype and shape as the signature has them. A model with one input takes the
                array itself, too, e.g. uint8 `(batch, height, width, channels)`, 0 to 255.

        Returns:
            Output name -> `(batch, *dims)`, e.g. float32 `(batch, classes)`.

        Raises:
            FeedError: A name, dtype or shape disagrees with the signature. Without a signature only a single array
                for a model of several inputs is refused.
            BackendError: The model raises an error when it runs.
            MemoryError: Memory is too small.
        """
        arrays = by_name(feed, self.inputs) if self.signature is None else check_feed(feed, self.signature)
        try:
            return dict(zip(self.outputs, self.infer(arrays), strict=True))
        except (OnwardError, MemoryError):
            raise
        except Exception as error:  # the libraries' errors have no common base
            raise BackendError(f"the model does not run on {self.name}: {reason_of(error)}") from error

    @abstractmethod
    def infer(self, arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch that was checked against the signature already.

        A benchmark times this: checking a feed takes microseconds, a fifth of a small network's inference at batch 1.
        The results are in the processor's memory: a GPU has finished when this returns.

        Args:
            arrays: Input name -> array, in the order of `inputs` (`check_feed` returns such a dictionary).

        Returns:
            An array for each of `outputs`, in that order, `(batch, *dims)` each. They belong to the caller.

        Raises:
            BackendError: Only `torch-compile`, at the first batch of a size: it cannot be compiled.
            Exception: Arrays that do not fit raise whatever the library raises.
        """
