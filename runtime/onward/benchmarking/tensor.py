"""Tensor: one input of an ONNX file that is not ours, and values for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.bundle.onnx_header import TensorValue
from onward.errors import UsageError

__all__ = ["Tensor"]

#: What can be drawn; numpy has no bfloat16 and no 4-bit integers.
DRAWN = ("float16", "float32", "float64", "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32")


@dataclass(frozen=True)
class Tensor:
    """One input.

    Args:
        name: Of the input.
        dtype: Of its elements, as numpy has it.
        shape: A size or the name of a dynamic axis each; the first is the batch.
        sizes: Of the dynamic axes.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...]
    sizes: Mapping[str, int]

    @classmethod
    def of(cls, value: TensorValue, sizes: Mapping[str, int]) -> Tensor:
        """The input that a file states.

        Raises:
            UsageError: Nothing is said of its shape, or it has none.
        """
        if not value.shape:
            raise UsageError(f"input {value.name!r} has no batch axis that the file tells of: it cannot be timed.")
        return cls(value.name, value.dtype, value.shape, sizes)

    @property
    def batch(self) -> int | None:
        """The only batch size that it takes, if it does not take any."""
        return self.shape[0] if isinstance(self.shape[0], int) else None

    @property
    def dynamic(self) -> tuple[str, ...]:
        """Names of its dynamic axes but the batch."""
        return tuple(size for size in self.shape[1:] if isinstance(size, str))

    def draw(self, count: int, generator: np.random.Generator) -> NDArray[Any]:
        """Random values: standard normal ones, bytes from 0 to 255, other integers 0 and 1, which any embedding has.

        Raises:
            UsageError: A dynamic axis has no size, or values of this dtype cannot be drawn.
        """
        if self.dtype not in DRAWN:
            raise UsageError(f"input {self.name!r} is {self.dtype}: `--input data.npz` has to say what it is fed.")
        shape = (count, *(self._size(size) for size in self.shape[1:]))
        if self.dtype.startswith("float"):
            return generator.standard_normal(shape, np.float32).astype(self.dtype)
        return generator.integers(0, 256 if self.dtype == "uint8" else 2, shape).astype(self.dtype)

    def check(self, array: NDArray[Any]) -> None:
        """Hold given values against it.

        Raises:
            UsageError: The dtype or the shape of a sample disagrees.
        """
        if array.dtype != np.dtype(self.dtype) or array.ndim != len(self.shape):
            raise UsageError(
                f"--input has {self.name!r} as {array.dtype} {array.shape}, the file takes {self.dtype} {self.shape}."
            )
        for given, size in zip(array.shape[1:], self.shape[1:], strict=True):
            if isinstance(size, int) and given != size:
                raise UsageError(f"--input has {self.name!r} of shape {array.shape}, the file takes {self.shape}.")

    def _size(self, size: int | str | None) -> int:
        if isinstance(size, int):
            return size
        if size is None or size not in self.sizes:
            raise UsageError(
                f"input {self.name!r} has the shape {self.shape}: `--dim {size or 'NAME'}=SIZE` says how large its "
                f"dynamic axes are, or `--input data.npz` what it is fed."
            )
        return self.sizes[size]
