"""Input: one tensor that a model takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onward.errors import SignatureError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["DTYPES", "Input"]

DTYPES = ("float32", "int64", "int32", "uint8", "bool")


@dataclass(frozen=True)
class Input:
    """One tensor that a model takes.

    Args:
        name: Of the input, in every artifact.
        dtype: Of `DTYPES`.
        shape: Of one sample, without the batch; None where any size is taken.
        range: The smallest and the largest value that it is meant for, e.g. (0, 999) for the rows of an embedding.
            Without one, numbers for the gate are drawn from a standard normal, integers from 0 and 1.

    Raises:
        SignatureError: The dtype is unknown, a side is empty, or the range is upside down.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise SignatureError(f"{self.name!r} is no name for an input; expected letters, digits and _.")
        if self.dtype not in DTYPES:
            raise SignatureError(f"input {self.name!r} is {self.dtype!r}; expected one of {', '.join(DTYPES)}.")
        if any(size is not None and size < 1 for size in self.shape):
            raise SignatureError(f"input {self.name!r} has shape {self.shape}, with an empty side.")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise SignatureError(f"input {self.name!r} has the range {self.range}, expected the smaller value first.")

    @property
    def described_shape(self) -> str:
        """`(batch, 28, 28, 1)`."""
        return f"({', '.join(['batch', *('any' if size is None else str(size) for size in self.shape)])})"

    def draw(self, count: int, generator: np.random.Generator) -> NDArray[Any]:
        """Random values, `(count, *shape)`; a side of any size is 8."""
        shape = (count, *(8 if size is None else size for size in self.shape))
        if self.dtype == "float32":
            if self.range is None:
                return generator.standard_normal(shape, "float32")
            return generator.uniform(*self.range, shape).astype("float32")
        low, high = self.range or ((0, 255) if self.dtype == "uint8" else (0, 1))
        return generator.integers(int(low), int(high), shape, endpoint=True).astype(self.dtype)

    def to_json(self) -> dict[str, Any]:
        """The one JSON form; `Input.from_json(item.to_json()) == item`."""
        shape = ["batch", *("any" if size is None else size for size in self.shape)]
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": shape,
            "range": None if self.range is None else list(self.range),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Input:
        """Read the JSON form.

        Raises:
            KeyError, TypeError, ValueError: A part is missing or of another kind.
            SignatureError: The parts do not fit.
        """
        shape = tuple(None if size == "any" else int(size) for size in document["shape"][1:])
        ends = document["range"]
        return cls(str(document["name"]), str(document["dtype"]), shape, ends and (ends[0], ends[1]))
