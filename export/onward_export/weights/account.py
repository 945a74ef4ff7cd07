"""Account: where each stored value of an artifact comes from.

Every value must equal the checkpoint's bit for bit, or a value that can be computed from the checkpoint. Rule 5 of
docs/parity.md: outputs alone miss a changed weight behind a unit that never fires.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor
from torch.export import ExportedProgram

from onward.backends.torch_backend import torchscript_is_meant
from onward_export.weights.constant_folding import FoldedConstant, constant_values, folded_constants
from onward_export.weights.layer_folding import FoldedValue, folded_values

__all__ = ["WeightCheck", "check_onnx", "check_pt2", "check_torchscript"]


@dataclass(frozen=True)
class WeightCheck:
    """Where the stored values of one artifact come from.

    Args:
        num_exact: Number of tensors that equal the checkpoint's bit for bit.
        num_rearranged: Number of tensors that are equal bit for bit after a transpose or a reshape, or equal to what
            PyTorch computes from weights and constants alone.
        folds: What was folded into what, for each tensor that equals a fold recomputed in float64, up to rounding.
        num_scalars: Number of single numbers in the graph, such as an attention's scale, which only outputs can check.
        unexplained: The tensors that are none of these, with the reason.
    """

    num_exact: int
    num_rearranged: int
    folds: tuple[str, ...]
    num_scalars: int
    unexplained: tuple[str, ...]

    @property
    def passed(self) -> bool:
        """Whether every tensor is explained."""
        return not self.unexplained

    def to_json(self) -> dict[str, Any]:
        """All counts and names."""
        return asdict(self) | {"passed": self.passed}


def check_onnx(
    path: Path, expected: Mapping[str, Tensor], program: ExportedProgram, decomposed: ExportedProgram | None = None
) -> WeightCheck:
    """Explain every floating-point initializer and constant of an ONNX file.

    Args:
        path: The file that ships.
        expected: The state_dict of the module that was exported.
        program: Its exported program, which says what precedes and follows each layer.
        decomposed: The program after the exporter's decompositions. An operator such as an adaptive pooling becomes
            several there, with their own constants.
    """
    known = _to_numpy(expected)
    derived = _to_numpy(constant_values(program, expected))
    folds: list[FoldedValue | FoldedConstant] = [*folded_values(program, derived), *folded_constants(program, expected)]
    arrays = [*known.values(), *derived.values()]
    if decomposed is not None:
        arrays += _to_numpy(constant_values(decomposed, expected)).values()
    rearrangements = {_fingerprint(view) for array in arrays for view in _views(array)}
    exact = rearranged = scalars = 0
    used: list[str] = []
    unexplained: list[str] = []
    for name, array in _stored_floats(path):
        if name in known and _same_bits(array, known[name]):
            exact += 1
        elif (name not in known or array.shape != known[name].shape) and _fingerprint(array) in rearrangements:
            rearranged += 1
        elif fold := next((fold for fold in folds if fold.explains(array)), None):
            used.append(fold.what)
        elif array.size == 1 and name not in known:
            scalars += 1
        else:
            unexplained.append(_describe(name, array, known.get(name)))
    return WeightCheck(exact, rearranged, tuple(used), scalars, tuple(unexplained))


def check_torchscript(path: Path, expected: Mapping[str, Tensor]) -> WeightCheck:
    """Compare the state_dict of a TorchScript file with the module's, bit for bit.

    Args:
        path: The file that ships.
        expected: The module's state_dict, and its buffers that are not persistent: TorchScript stores these, too.
    """
    with torchscript_is_meant():
        found = torch.jit.load(path, map_location="cpu").state_dict()  # type: ignore[no-untyped-call]
    return _check_state(found, expected)


def check_pt2(path: Path, expected: Mapping[str, Tensor], constants: Mapping[str, Any] | None = None) -> WeightCheck:
    """Compare the state_dict and the constants of a .pt2 file with the module's, bit for bit.

    Args:
        path: The file that ships.
        expected: The module's state_dict.
        constants: The constants of its exported program: buffers that are not persistent, tensors of `forward`.
    """
    program = torch.export.load(path)
    return _check_state(
        {**program.state_dict, **_tensors(program.constants)}, {**expected, **_tensors(constants or {})}
    )


def _tensors(constants: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in constants.items() if isinstance(value, Tensor)}


def _check_state(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> WeightCheck:
    known, stored = _to_numpy(expected), _to_numpy(found)
    unexplained = [f"{name} of the checkpoint is missing" for name in known if name not in stored]
    unexplained += [
        _describe(name, array, known.get(name))
        for name, array in stored.items()
        if name not in known or not _same_bits(array, known[name])
    ]
    return WeightCheck(len(known) - len(unexplained), 0, (), 0, tuple(unexplained))


def _stored_floats(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    model = onnx.load(path)
    stored = [(item.name, item) for item in model.graph.initializer]
    stored += [
        (node.output[0], attribute.t)
        for node in model.graph.node
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.type == onnx.AttributeProto.TENSOR
    ]
    for name, tensor in stored:
        array = numpy_helper.to_array(tensor)
        if np.issubdtype(array.dtype, np.floating):
            yield name, array


def _views(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    yield array
    if array.ndim >= 2:
        yield np.swapaxes(array, -1, -2)
    if array.ndim > 2:
        yield array.T


def _fingerprint(array: NDArray[Any]) -> tuple[str, int, bytes]:
    # the values in order, whatever their shape
    return (str(array.dtype), array.size, hashlib.sha256(np.ascontiguousarray(array).data).digest())


def _same_bits(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def _describe(name: str, array: NDArray[Any], expected: NDArray[Any] | None) -> str:
    if expected is None:
        return f"{name} {array.shape} is neither a tensor of the checkpoint nor a known fold of its tensors"
    if array.shape != expected.shape:
        return f"{name} has shape {array.shape}, expected {expected.shape} as in the checkpoint"
    changed = array != expected
    largest = float(np.abs(array.astype(np.float64) - expected.astype(np.float64)).max())
    return f"{name}: {int(changed.sum())} of {array.size} values differ from the checkpoint's, by up to {largest:.1e}"


def _to_numpy(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
    return {name: tensor.detach().cpu().numpy() for name, tensor in tensors.items()}
