"""Expected values: every value inside an exported program, in float64 and in float32."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Interpreter, Node

from onward.feed import Feed, arrays_of, num_samples, take
from onward.parity import MIN_FLOOR_ULPS
from onward_export.reference.widening import widened

__all__ = ["Expected", "expected_values"]

#: No float32 computation of a value differs by this share of its scale; the same values in another order do.
WRONG_ORDER = 1e-2


class Expected:
    """A value in float64, and how close PyTorch's float32 comes to it.

    Args:
        reference: float64.
        ways: The value in float32, computed by PyTorch in several batch sizes.
    """

    def __init__(self, reference: NDArray[np.float64], ways: list[NDArray[Any]]) -> None:
        self.reference = reference
        self.scale = float(np.abs(reference).max()) if reference.size else 0.0
        ulp = float(np.spacing(np.float32(self.scale)))
        errors = [np.abs(way.astype(np.float64) - reference) for way in ways]
        # infinity minus infinity gives NaN and is not an error: masks hold many infinities
        largest = max((float(np.nanmax(error, initial=0.0)) for error in errors), default=0.0)
        rms = max((float(np.sqrt(np.nanmean(np.square(error)))) for error in errors if error.size), default=0.0)
        self.floor = max(largest, MIN_FLOOR_ULPS * ulp)
        self.rms = max(rms, ulp / 10)


def expected_values(program: ExportedProgram, feed: Feed, names: Collection[str]) -> dict[str, Expected]:
    """Interpret a program in float64, and in float32 in one batch and sample by sample.

    Args:
        program: The program after the ONNX exporter's decompositions.
        feed: A few samples, since all requested values are held in memory.
        names: The names of the requested values.

    Returns:
        Name -> its expected value, for those that are floating-point tensors.
    """
    reference = _values(program, feed, names, torch.float64)
    together = _values(program, feed, names, torch.float32)
    singles = [_values(program, take(feed, slice(at, at + 1)), names, torch.float32) for at in range(num_samples(feed))]
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


def _values(
    program: ExportedProgram, feed: Feed, names: Collection[str], dtype: torch.dtype
) -> dict[str, NDArray[Any]]:
    values: dict[str, NDArray[Any]] = {}

    def keep(name: str, value: Any) -> None:
        if name in names and isinstance(value, Tensor) and value.is_floating_point():
            values[name] = value.detach().cpu().numpy().copy()

    interpreter = _Recorder(program, keep)
    with torch.inference_mode(), widened(dtype) if dtype == torch.float64 else nullcontext():
        interpreter.run(*_arguments(program, feed, dtype), enable_io_processing=False)
    return values


class _Recorder(Interpreter):
    """Runs the graph of a program and keeps its values."""

    def __init__(self, program: ExportedProgram, keep: Callable[[str, Any], None]) -> None:
        super().__init__(program.graph_module)
        self.keep = keep

    def run_node(self, n: Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_function":
            self.keep(n.name, result)
        return result


def _arguments(program: ExportedProgram, feed: Feed, dtype: torch.dtype) -> Iterator[Any]:
    """Weights, buffers, constants and inputs, in the order of the graph's placeholders."""
    signature = program.graph_signature
    names: Mapping[str, str] = {
        **signature.inputs_to_parameters,
        **signature.inputs_to_buffers,
        **signature.inputs_to_lifted_tensor_constants,
    }
    arrays = iter(arrays_of(feed))
    for node in program.graph.nodes:
        if node.op != "placeholder":
            continue
        name = names.get(node.name)
        if name is None:
            value = torch.tensor(np.ascontiguousarray(next(arrays)))
        else:
            value = program.state_dict[name] if name in program.state_dict else program.constants[name]
        yield value.to(dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
