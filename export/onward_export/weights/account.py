"""Account: where each stored value of an artifact comes from.

Every value must equal the checkpoint's bit for bit, or a value that can be computed from the checkpoint; what is left
is probed. Rule 5 of docs/parity.md: outputs alone miss a changed weight behind a unit that never fires.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor
from torch.export import ExportedProgram

from onward.backends.onnxruntime_backend import run_as_written
from onward.backends.torch_backend import load_program, torchscript_is_meant
from onward.feed import Feed
from onward_export.explanation.candidate import RunAsWritten
from onward_export.weights.known_values import DAMAGED, KnownValues, share_of_equal, to_numpy
from onward_export.weights.probe import Probe, probe

__all__ = ["StoredValue", "Way", "WeightCheck", "check_onnx", "check_pt2", "check_torchscript"]

#: How a stored value was accounted for, in the order in which it is tried.
Way = Literal["equal", "rearranged", "folded", "single number", "probed", "unexplained"]
#: Arrays of integers up to this size are shapes, axes and paddings, which only outputs can check.
MAX_SETTING_SIZE = 16
#: An array of no more different numbers than this may equal another one in most places and be right.
MAX_ALIKE = 4
#: So many numbers of an array are looked at to count different ones.
NUM_LOOKED_AT = 4096


@dataclass(frozen=True)
class StoredValue:
    """Where one stored value comes from.

    Args:
        name: Its name in the artifact.
        way: How it was accounted for.
        what: What it equals, what was folded into what, what was probed, or why it is unexplained; empty if its own
            name says all.
    """

    name: str
    way: Way
    what: str = ""


@dataclass(frozen=True)
class WeightCheck:
    """Where the stored values of one artifact come from.

    Args:
        values: Every stored value.
        missing: The tensors of the checkpoint that the artifact should hold under their own names and does not.
    """

    values: tuple[StoredValue, ...]
    missing: tuple[str, ...] = ()

    def count(self, way: Way) -> int:
        """The number of values that were accounted for in one way.

        `equal`: to the checkpoint's value of that name, bit for bit. `rearranged`: equal bit for bit after a transpose
        or a reshape, or equal to what PyTorch computes from weights and constants alone. `folded`: equal to a fold
        recomputed in float64, up to rounding. `single number`: a number of the graph, such as an attention's scale,
        which only outputs can check. `probed`: the nodes that read it compute what PyTorch computes.
        """
        return sum(value.way == way for value in self.values)

    def all_by(self, way: Way) -> tuple[str, ...]:
        """What is said of the values that were accounted for in one way."""
        return tuple(value.what for value in self.values if value.way == way)

    @property
    def unexplained(self) -> tuple[str, ...]:
        """The tensors that are not accounted for, with the reason."""
        return (*(f"{name} of the checkpoint is missing" for name in self.missing), *self.all_by("unexplained"))

    @property
    def passed(self) -> bool:
        """Whether every tensor is explained."""
        return not self.unexplained

    def to_json(self) -> dict[str, Any]:
        """Counts, names and every value."""
        return {
            "num_exact": self.count("equal"),
            "num_rearranged": self.count("rearranged"),
            "folds": self.all_by("folded"),
            "num_scalars": self.count("single number"),
            "probed": self.all_by("probed"),
            "unexplained": self.unexplained,
            "values": [asdict(value) for value in self.values],
            "passed": self.passed,
        }


def check_onnx(
    path: Path,
    expected: Mapping[str, Tensor],
    program: ExportedProgram,
    decomposed: ExportedProgram | None = None,
    feed: Feed | None = None,
    run: RunAsWritten = run_as_written,
    *,
    known: KnownValues | None = None,
) -> WeightCheck:
    """Account for every floating-point initializer and constant of an ONNX file, and for large ones of integers.

    Args:
        path: The file that ships.
        expected: The state_dict of the module that was exported.
        program: Its exported program, which says what precedes and follows each layer.
        decomposed: The program after the exporter's decompositions. An operator such as an adaptive pooling becomes
            several there, with their own constants.
        feed: Samples for the probes. Without them, or without the decomposed program, nothing is probed.
        run: Runs a part of the file for a probe.
        known: What a file of this program may store, if several files are checked; computed else.
    """
    model = onnx.load(path)
    own = to_numpy(expected)
    found: dict[str, StoredValue] = {}
    rest: dict[str, NDArray[Any]] = {}
    for name, array in _stored_values(model):
        if name in own and _same_bits(array, own[name]):
            found[name] = StoredValue(name, "equal")
        else:
            rest[name] = array
    if rest:
        known = known or KnownValues(expected, program, decomposed)
        found |= {name: _computed(name, array, own.get(name), known) for name, array in rest.items()}
    left = [name for name, value in found.items() if value.way == "probed"]
    if left and decomposed is not None and feed is not None:
        probes = probe(model, decomposed, expected, feed, left, run)
        found |= {name: _probed(name, rest[name], own.get(name), probes[name]) for name in left}
    elif left:
        found |= {name: StoredValue(name, "unexplained", _describe(name, rest[name], own.get(name))) for name in left}
    return WeightCheck(tuple(found.values()))


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
    program = load_program(path)
    return _check_state(
        {**program.state_dict, **_tensors(program.constants)}, {**expected, **_tensors(constants or {})}
    )


def _tensors(constants: Mapping[str, Any]) -> dict[str, Tensor]:
    return {name: value for name, value in constants.items() if isinstance(value, Tensor)}


def _check_state(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> WeightCheck:
    known, stored = to_numpy(expected), to_numpy(found)
    values = (
        StoredValue(name, "equal")
        if name in known and _same_bits(array, known[name])
        else StoredValue(name, "unexplained", _describe(name, array, known.get(name)))
        for name, array in stored.items()
    )
    return WeightCheck(tuple(values), tuple(name for name in known if name not in stored))


def _computed(name: str, array: NDArray[Any], own: NDArray[Any] | None, known: KnownValues) -> StoredValue:
    """Where a value comes from that does not equal the checkpoint's; its way is `probed` where that is not known yet.

    Args:
        name: Its name in the file.
        array: The value.
        own: The checkpoint's value of that name, if there is one.
        known: What it may be.
    """
    keeps_its_shape = own is not None and own.shape == array.shape
    if not keeps_its_shape and (what := known.rearranged(array)):
        return StoredValue(name, "rearranged", what)
    if what := known.folded(array):
        return StoredValue(name, "folded", what)
    if own is None and array.size == 1:
        return StoredValue(name, "single number")
    if own is not None and keeps_its_shape and share_of_equal(array, own) > DAMAGED:
        return StoredValue(name, "unexplained", _describe(name, array, own))
    # ones, zeros and masks are alike by chance
    some = array.reshape(-1)[:: max(1, array.size // NUM_LOOKED_AT)]
    if np.unique(some).size > MAX_ALIKE and (what := known.damaged(array)):
        return StoredValue(name, "unexplained", f"{name}: most of its values equal {what}, the others do not")
    return StoredValue(name, "probed")


def _probed(name: str, array: NDArray[Any], own: NDArray[Any] | None, result: Probe) -> StoredValue:
    if result.passed:
        return StoredValue(name, "probed", f"{name}, with {', '.join(result.nodes)}: {result.ratio:.2f}")
    return StoredValue(name, "unexplained", f"{_describe(name, array, own)}, and {result.sentence()}")


def _stored_values(model: onnx.ModelProto) -> Iterator[tuple[str, NDArray[Any]]]:
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
        if np.issubdtype(array.dtype, np.floating) or array.size > MAX_SETTING_SIZE:
            yield name, array


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
