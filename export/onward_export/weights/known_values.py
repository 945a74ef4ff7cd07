"""Known values: what a file may store, computed from the checkpoint and PyTorch's program alone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.export import ExportedProgram

from onward_export.weights.constant_folding import constant_values, folded_constants
from onward_export.weights.folded_value import FoldedValue
from onward_export.weights.layer_folding import folded_values

__all__ = ["DAMAGED", "KnownValues", "share_of_equal", "to_numpy"]

#: Dtype and size -> name -> array.
Arrays = Mapping[tuple[Any, int], Mapping[str, NDArray[Any]]]
#: Axes are permuted in every order up to this rank, not counting axes of size 1.
MAX_PERMUTED_RANK = 4
#: So many values are looked at before all are compared.
NUM_SAMPLED = 64
#: An array of which more than this share equals a known value, but not all, is a damaged copy of it.
DAMAGED = 0.5


class KnownValues:
    """The values of a checkpoint, those that the program computes from weights and constants alone, and folds of them.

    Each group is computed when a value is first looked for in it.

    Args:
        state: The state_dict of the module that was exported.
        program: Its exported program, which says what precedes and follows each layer.
        decomposed: The program after the exporter's decompositions.
    """

    def __init__(
        self, state: Mapping[str, Tensor], program: ExportedProgram, decomposed: ExportedProgram | None
    ) -> None:
        self.state = state
        self.program = program
        self.decomposed = decomposed

    @cached_property
    def _stored(self) -> Arrays:
        arrays = to_numpy(self.state)
        return _by_size(arrays | _planes(arrays))

    @cached_property
    def _constants(self) -> dict[str, Tensor]:
        return constant_values(self.program, self.state)

    @cached_property
    def _computed(self) -> Arrays:
        return _by_size(to_numpy(self._constants))

    @cached_property
    def _decomposed(self) -> Arrays:
        constants = constant_values(self.decomposed, self.state) if self.decomposed is not None else {}
        return _by_size(to_numpy(constants))

    def _groups(self) -> Iterator[Arrays]:
        yield self._stored
        yield self._computed
        yield self._decomposed

    @cached_property
    def _folds(self) -> list[FoldedValue]:
        return [
            *folded_values(self.program, to_numpy(self._constants)),
            *folded_constants(self.program, self.state, self._constants),
        ]

    def rearranged(self, array: NDArray[Any]) -> str | None:
        """The name of a known value with the same bits after a transpose or a reshape."""
        views = (pair for group in self._groups() for pair in _views(group, array))
        return next((name for name, view in views if share_of_equal(array, view) == 1), None)

    def folded(self, array: NDArray[Any]) -> str | None:
        """What was folded into what, if the array is a fold to within rounding."""
        return next((fold.what for fold in self._folds if fold.explains(array)), None)

    def damaged(self, array: NDArray[Any]) -> str | None:
        """The known value that most of an array equals, and the rest does not; None where there is none.

        A fold and another arrangement change nearly every number of a value, damage changes few.
        """
        for name, view in _views(self._stored, array):
            if share_of_equal(array, view) > DAMAGED:
                return name
        return next((fold.what for fold in self._folds if fold.is_damaged_in(array)), None)


def _by_size(arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    grouped: dict[tuple[Any, int], dict[str, NDArray[Any]]] = {}
    for name, array in arrays.items():
        grouped.setdefault((array.dtype, array.size), {})[name] = array
    return grouped


def _views(arrays: Arrays, like: NDArray[Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """The arrays of another one's dtype and size, each with its axes in every order."""
    for name, array in arrays.get((like.dtype, like.size), {}).items():
        squeezed = array.squeeze()
        orders = itertools.permutations(range(squeezed.ndim)) if squeezed.ndim <= MAX_PERMUTED_RANK else [None]
        yield from ((name, squeezed.transpose(order)) for order in orders)


def to_numpy(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    """Name -> array."""
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}


def _planes(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The real and the imaginary parts of complex numbers: a file stores them as two planes, or one after the other."""
    planes: dict[str, NDArray[Any]] = {}
    for name, array in arrays.items():
        if np.iscomplexobj(array):
            pairs = np.stack([array.real, array.imag], -1)
            planes |= {f"{name}.real": array.real, f"{name}.imag": array.imag, f"{name} as pairs": pairs}
    return planes


def share_of_equal(one: NDArray[Any], other: NDArray[Any]) -> float:
    """The share of equal numbers of two arrays of one size, in order, whatever their shapes. Common zeros do not count.

    A share that is small among some of the numbers is not computed for all.
    """
    if one.size > 4 * NUM_SAMPLED:
        places = np.linspace(0, one.size - 1, NUM_SAMPLED).astype(np.intp)
        pairs = (array[np.unravel_index(places, array.shape)] for array in (one, other))
        share = _share(*pairs)
        if share < DAMAGED / 2:
            return share
    return _share(one.reshape(-1), other.reshape(-1))


def _share(one: NDArray[Any], other: NDArray[Any]) -> float:
    # a pruned weight has its zeros in common with every value that is computed from it
    counts = (one != 0) | (other != 0)
    return float((one == other)[counts].mean()) if counts.any() else 1.0
