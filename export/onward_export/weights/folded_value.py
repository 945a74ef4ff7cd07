"""Folded value: a value that was computed from several, which an artifact may store in place of the checkpoint's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["FoldedValue", "ulps_of"]

Float64 = NDArray[np.float64]
#: What is this many times the tolerance away is another number, however it was rounded.
FAR = 64


@dataclass(frozen=True)
class FoldedValue:
    """One such value.

    Args:
        what: What it was computed from.
        value: The value in float64.
        tolerance: How far each number of an artifact may be from it: one array of its shape, or one number.
    """

    what: str
    value: Float64
    tolerance: Float64 | float

    def explains(self, array: NDArray[Any]) -> bool:
        """Whether an array is this value, or its transpose, within the tolerance."""
        return self.share(array) == 1

    def is_damaged_in(self, array: NDArray[Any]) -> bool:
        """Whether an array is this value in most of its numbers, and far from it in the others."""
        if not 0.5 < self.share(array) < 1:
            return False
        # where a number is the difference of others, its rounding is theirs
        return self.share(array, FAR * np.maximum(self.tolerance, np.median(self.tolerance))) < 1

    def share(self, array: NDArray[Any], tolerance: Float64 | float | None = None) -> float:
        """The share of the numbers of an array that are this value, or its transpose, within a tolerance."""
        limit = self.tolerance if tolerance is None else tolerance
        views = (array, array.T) if array.ndim == 2 else (array,)
        fitting = (view for view in views if view.shape == self.value.shape)
        return max((self._share(view, limit) for view in fitting), default=0.0)

    def _share(self, array: NDArray[Any], limit: Float64 | float) -> float:
        counts = (array != 0) | (self.value != 0)  # zeros stay zeros, whatever the scale
        return float((np.abs(array - self.value) <= limit)[counts].mean()) if counts.any() else 1.0


def ulps_of(value: Float64) -> Float64:
    """One unit in the last place of each number in float32."""
    ulps: Float64 = np.spacing(np.abs(value).astype(np.float32)).astype(np.float64)
    return ulps
