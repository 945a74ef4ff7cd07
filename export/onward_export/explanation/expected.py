"""Expected values: every value inside an exported program, in float64 and in float32."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from onward.feed import Feed, num_samples, take
from onward.parity import MIN_FLOOR_ULPS
from onward_export.explanation.program_values import ProgramValues

__all__ = ["Expected", "expected_values"]

#: No float32 computation of a value differs by this share of its scale; the same values in another order do.
WRONG_ORDER = 1e-2
LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
#: Below this share of the floor of all channels, that of one is luck: its numbers may be all but zero.
SMALLEST_CHANNEL = 1e-4


class Expected:
    """A value in float64, and how close PyTorch's float32 comes to it.

    Args:
        reference: float64.
        ways: The value in float32, computed by PyTorch in several batch sizes.
    """

    def __init__(self, reference: NDArray[np.float64], ways: list[NDArray[Any]]) -> None:
        self.reference = reference
        # infinities have no rounding: a mask's other numbers say its scale
        sizes = np.where(np.isfinite(reference), np.abs(reference), 0.0).clip(max=LARGEST_FLOAT32)
        self.scale = float(sizes.max(initial=0.0))
        ulp = float(np.spacing(np.float32(self.scale)))
        with np.errstate(invalid="ignore"):
            errors = [np.abs(way.astype(np.float64) - reference) for way in ways]
        # infinity minus infinity gives NaN and is not an error: masks hold many infinities
        largest = max((float(np.nanmax(error, initial=0.0)) for error in errors), default=0.0)
        rms = max((float(np.sqrt(np.nanmean(np.square(error)))) for error in errors if error.size), default=0.0)
        self.floor = max(largest, MIN_FLOOR_ULPS * ulp)
        self.rms = max(rms, ulp / 10)
        self.channel_floors = {axis: self._channel_floors(sizes, errors, axis) for axis in _channel_axes(reference)}

    def _channel_floors(
        self, sizes: NDArray[np.float64], errors: list[NDArray[np.float64]], axis: int
    ) -> NDArray[np.float64]:
        """The floor of each channel along an axis."""
        ulps = np.spacing(_largest(sizes, axis).astype(np.float32)).astype(np.float64)
        floors = np.maximum(MIN_FLOOR_ULPS * ulps, SMALLEST_CHANNEL * self.floor)
        for error in errors:
            floors = np.maximum(floors, _largest(error, axis))
        return floors

    def compare(self, found: NDArray[Any]) -> tuple[float, float, str]:
        """Compare another computation of the value with it.

        Returns:
            The largest error, the root-mean-square error over that of PyTorch, and what is wrong with shape or numbers.
        """
        if found.shape != self.reference.shape:
            return math.inf, math.inf, f"it gives shape {found.shape}, PyTorch gives {self.reference.shape}"
        if not found.size:
            return 0.0, 0.0, ""
        errors = self._errors(found)
        if np.isnan(errors).any():
            return math.inf, math.inf, "it gives NaN where PyTorch gives a number"
        return float(errors.max()), float(np.sqrt(np.square(errors).mean())) / self.rms, ""

    def worst_channel(self, found: NDArray[Any]) -> float:
        """The largest noise ratio of a channel: beside a channel of large numbers the error of another does not show.

        Args:
            found: Of the same shape.
        """
        if not self.channel_floors or found.shape != self.reference.shape:
            return 0.0
        errors = self._errors(found)
        return max(float((_largest(errors, axis) / floors).max()) for axis, floors in self.channel_floors.items())

    def _errors(self, found: NDArray[Any]) -> NDArray[np.float64]:
        """The error of each number; NaN only where one of both is NaN."""
        with np.errstate(invalid="ignore"):
            errors = np.where(found == self.reference, 0.0, np.abs(found.astype(np.float64) - self.reference))
        both: NDArray[np.float64] = np.where(np.isnan(self.reference) & np.isnan(found), 0.0, errors)
        return both


def _channel_axes(reference: NDArray[Any]) -> tuple[int, ...]:
    """Where channels may be: along the second axis and the last."""
    if not reference.size:
        return ()
    return (0,) if reference.ndim == 1 else tuple(sorted({1, reference.ndim - 1})) if reference.ndim else ()


def _largest(array: NDArray[Any], axis: int) -> NDArray[np.float64]:
    """The largest number of each channel; that of the others where some are NaN."""
    others = tuple(at for at in range(array.ndim) if at != axis)
    largest: NDArray[np.float64] = np.fmax.reduce(array, axis=others) if others else np.asarray(array)
    return np.where(np.isnan(largest), 0.0, largest)


def expected_values(program: ExportedProgram, feed: Feed, names: Collection[str]) -> dict[str, Expected]:
    """Interpret a program in float64, and in float32 in one batch and sample by sample.

    Args:
        program: The program after the ONNX exporter's decompositions.
        feed: A few samples, since all requested values are held in memory.
        names: The names of the requested values.

    Returns:
        Name -> its expected value, for those that are floating-point tensors.
    """
    values = ProgramValues(program)

    def floats(feed: Feed, dtype: torch.dtype) -> dict[str, NDArray[Any]]:
        computed = values.compute(names, feed, dtype).items()
        return {name: value.numpy() for name, value in computed if value.is_floating_point()}

    names = [name for name in names if values.has_real(name)]
    reference, together = floats(feed, torch.float64), floats(feed, torch.float32)
    singles = [floats(take(feed, slice(at, at + 1)), torch.float32) for at in range(num_samples(feed))]
    expected = {}
    for name, exact in reference.items():
        ways = [together[name]] if name in together else []
        parts = [single[name] for single in singles if name in single]
        if parts and parts[0].ndim and sum(len(part) for part in parts) == len(exact):
            ways.append(np.concatenate(parts))
        expected[name] = Expected(exact, [way for way in ways if _is_the_same(way, exact)])
    return expected


def _is_the_same(way: NDArray[Any], exact: NDArray[np.float64]) -> bool:
    """Whether it is the value at all: samples joined one by one may stand in another order, where the first axis is not
    the batch."""
    if way.shape != exact.shape:
        return False
    errors = np.abs(way.astype(np.float64) - exact)
    return not errors.size or not float(np.nanmax(errors, initial=0.0)) > WRONG_ORDER * float(np.abs(exact).max())
