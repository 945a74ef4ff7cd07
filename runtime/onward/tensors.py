"""Tensors: what a model takes and gives, one by one. `Input` and `Output` are the parts of a signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onward.document import Document
from onward.errors import SignatureError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["ANY", "BATCH", "CLASSES", "DTYPES", "Input", "Output", "describe_shape"]

DTYPES = ("float32", "int64", "int32", "uint8", "bool")
#: The dimension that has one value a label.
CLASSES = "classes"
#: The words that stand for the batch and for a dimension of any size in JSON.
BATCH, ANY = "batch", "any"


@dataclass(frozen=True)
class Input:
    """One tensor that a model takes.

    Args:
        name: Of the input, in every artifact.
        dtype: One of `DTYPES`.
        shape: Of one sample, without the batch; None where any size is taken.
        range: The smallest and the largest value that the model is meant for, e.g. (0, 999) for the rows of an
            embedding. Without one, the gate draws floats from a standard normal, and integers from 0 and 1.

    Raises:
        SignatureError: The dtype is unknown, a side is empty, or the range is upside down.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check_tensor("input", self.name, self.dtype, self.shape)
        if self.range is not None and not self.range[0] < self.range[1]:
            raise SignatureError(f"input {self.name!r} has the range {self.range}, expected the smaller value first.")

    @property
    def described_shape(self) -> str:
        """`(batch, 28, 28, 1)`."""
        return describe_shape(self.shape)

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
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": [BATCH, *(ANY if size is None else size for size in self.shape)],
            "range": None if self.range is None else list(self.range),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any] | Document) -> Input:
        """Read the JSON form.

        Raises:
            SignatureError: A part is missing, of another kind, or does not fit; of a `Document` that document's error.
        """
        document = Document.of(document, "the input", SignatureError)
        shape = document["shape"].read(tuple[int | str, ...])
        sizes = [None if size == ANY else size for size in shape]
        if not sizes or sizes[0] != BATCH or any(isinstance(size, str) for size in sizes[1:]):
            document["shape"].refuse(f"a list of sizes: {BATCH!r} first, then whole numbers or {ANY!r}")
        ends = document["range"].read(tuple[float, float] | None)
        name, dtype = document["name"].read(str), document["dtype"].read(str)
        return document.build(cls, name=name, dtype=dtype, shape=tuple(sizes[1:]), range=ends)


@dataclass(frozen=True)
class Output:
    """One tensor that a model gives.

    Args:
        name: Of the output, in every artifact.
        dtype: One of `DTYPES`.
        dims: Of one sample, without the batch: a size each; `classes` for one value a label; another name where the
            size follows an input's, e.g. `height`; None where any size may come.
        meaning: What the task takes the values for, e.g. `logits`.

    Raises:
        SignatureError: The dtype is unknown, or a part is empty.
    """

    name: str
    dtype: str
    dims: tuple[int | str | None, ...]
    meaning: str

    def __post_init__(self) -> None:
        _check_tensor("output", self.name, self.dtype, self.dims)
        if not self.meaning:
            raise SignatureError(f"output {self.name!r} has no meaning, expected a word such as logits.")

    @classmethod
    def from_json(cls, document: Mapping[str, Any] | Document) -> Output:
        """Read the JSON form; its errors are those of `Input.from_json`."""
        document = Document.of(document, "the output", SignatureError)
        dims = tuple(None if dim == ANY else dim for dim in document["dims"].read(tuple[int | str, ...]))
        name, dtype, meaning = (document[key].read(str) for key in ("name", "dtype", "meaning"))
        return document.build(cls, name=name, dtype=dtype, dims=dims, meaning=meaning)


def describe_shape(dims: Sequence[int | str | None]) -> str:
    """`(batch, 28, 28, 1)`."""
    return f"({', '.join([BATCH, *(ANY if dim is None else str(dim) for dim in dims)])})"


def _check_tensor(kind: str, name: str, dtype: str, dims: Sequence[int | str | None]) -> None:
    if not name.isidentifier():
        raise SignatureError(f"{name!r} is no name for an {kind}; expected letters, digits and _.")
    if dtype not in DTYPES:
        raise SignatureError(f"{kind} {name!r} is {dtype!r}; expected one of {', '.join(DTYPES)}.")
    if any(isinstance(dim, int) and dim < 1 for dim in dims):
        raise SignatureError(f"{kind} {name!r} has shape {tuple(dims)}, with an empty side.")
    if any(isinstance(dim, str) and (not dim.isidentifier() or dim in (BATCH, ANY)) for dim in dims):
        raise SignatureError(f"{kind} {name!r} has dims {tuple(dims)}: a name has letters, digits and _.")
