"""Probe: runs a part of an ONNX file alone, on fresh random inputs, beside the same part of PyTorch's program.

It decides about a stored value that neither equals one of the checkpoint's nor can be computed from them here: gates in
another order, ones that an operator's definition implies, a fold that nobody foresaw. A part begins and ends at values
that the file and the program have in common. Its inputs have the range that they have in the model, but none of them is
dead: a wrong weight behind a unit that never fires shows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper
from torch import Tensor
from torch.export import ExportedProgram

from onward.backends.onnxruntime_backend import ORT_ERRORS, run_as_written
from onward.errors import BackendError, reason_of
from onward.feed import Feed, arrays_of, take
from onward_export.explanation.candidate import RunAsWritten
from onward_export.explanation.expected import Expected
from onward_export.explanation.program_values import ProgramValues

__all__ = ["MAX_PROBE_RATIO", "Probe", "probe"]

#: The largest noise ratio of a part that passes. A part is short, so its noise floor is that of a few roundings: two
#: libraries differ by more of these than in a whole model. A wrong value gives thousands.
MAX_PROBE_RATIO = 30.0
#: Inner values are held in memory for this many samples.
NUM_PROBED = 8
#: How far a drawn number may be from one that the model has, as a share of it.
JITTER = 0.1
#: What onnxruntime and PyTorch raise when they run a part that is none.
ERRORS: tuple[type[Exception], ...] = (*ORT_ERRORS, BackendError, RuntimeError, TypeError, ValueError, LookupError)


@dataclass(frozen=True)
class Probe:
    """What a probe found.

    Args:
        nodes: The names of the nodes that were run.
        ratio: The largest error over the error of PyTorch's float32; infinite if the part could not be compared.
        problem: Why it could not be compared; empty if it was.
    """

    nodes: tuple[str, ...]
    ratio: float
    problem: str = ""

    @property
    def passed(self) -> bool:
        """Whether the part computes what PyTorch's program computes."""
        return not self.problem and self.ratio <= MAX_PROBE_RATIO

    def sentence(self) -> str:
        """The result in words."""
        nodes = ", ".join(self.nodes[:3]) + (f" and {len(self.nodes) - 3} more" if len(self.nodes) > 3 else "")
        if self.problem:
            return f"the nodes that read it ({nodes}) cannot be compared with PyTorch: {self.problem}"
        return f"the nodes that read it ({nodes}) miss PyTorch's values by {self.ratio:,.1f} times its own error"


def probe(
    model: onnx.ModelProto,
    program: ExportedProgram,
    state: Mapping[str, Tensor],
    feed: Feed,
    names: Sequence[str],
    run: RunAsWritten = run_as_written,
) -> dict[str, Probe]:
    """Probe the parts of a graph that read some of its stored values.

    Args:
        model: The graph with its weights.
        program: The program that it was translated from, after the exporter's decompositions.
        state: The weights and buffers of the checkpoint, by name.
        feed: Samples, from which the range of inner values is taken.
        names: The names of the stored values.
        run: Runs a part of the file.

    Returns:
        Name -> what was found.
    """
    graph = _Graph(model, program)
    feed = take(feed, slice(NUM_PROBED))
    values = ProgramValues(program, state)
    parts = {name: graph.part_that_reads(name, values) for name in names}
    inputs = {graph.counterpart(item) for part in parts.values() for item in part.inputs}
    captured = values.compute([*inputs, *values.numbers()], feed, torch.float32)
    constants = {name for name in inputs if name in captured and not values.depends_on_inputs(name, values.numbers())}
    given = _Given(feed, captured, constants, np.random.default_rng(0))
    found: dict[tuple[str, ...], Probe] = {}
    for part in parts.values():
        if part.outputs not in found:
            result = _run(graph, part, values, given, run)
            if not result.passed and part.inputs != tuple(graph.inputs):
                # inputs that depend on each other mean nothing when they are random: from the graph's inputs then
                whole = _run(graph, graph.part_before(part.outputs, stop_at=()), values, given, run)
                result = result if whole.problem or not result.problem else whole
            found[part.outputs] = result
    return {name: found[part.outputs] for name, part in parts.items()}


@dataclass(frozen=True)
class _Part:
    """Some nodes of a graph, in order, the values that they take and the values that they give."""

    nodes: tuple[onnx.NodeProto, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class _Graph:
    """A graph, of which parts can be cut out where it has values in common with the program."""

    def __init__(self, model: onnx.ModelProto, program: ExportedProgram) -> None:
        self.model = model
        self.inputs = [item.name for item in model.graph.input]
        self.stored = {item.name: item for item in model.graph.initializer}
        self.produced = {name: node for node in model.graph.node for name in node.output if name}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in model.graph.node:
            for name in _names_read(node):
                self.readers.setdefault(name, []).append(node)
        outputs = map(str, program.graph_signature.user_outputs)
        self.renamed = dict(zip((item.name for item in model.graph.output), outputs, strict=False))

    def counterpart(self, name: str) -> str:
        """The name that a value has in the program, if it has one."""
        return str(self.renamed.get(name, name))

    def part_that_reads(self, stored: str, values: ProgramValues) -> _Part:
        """The nodes between a stored value and the values in common around it."""
        common = {name for name in self.produced if values.has_real(self.counterpart(name))}
        outputs: dict[str, None] = {}
        open_names, seen = [stored], {stored}
        while open_names:
            for node in self.readers.get(open_names.pop(0), ()):
                new = [name for name in node.output if name and name not in seen]
                seen.update(new)
                outputs |= dict.fromkeys(name for name in new if name in common)
                open_names += [name for name in new if name not in common]
        part = self.part_before(tuple(outputs), stop_at=common)
        while implied := self._implied(part, values):
            common -= implied
            part = self.part_before(tuple(outputs), stop_at=common)
        given = [self.counterpart(name) for name in part.inputs if name in self.produced] + values.numbers()
        taken = [name for name in part.inputs if name in self.inputs]
        if not taken and any(values.depends_on_inputs(self.counterpart(name), given) for name in outputs):
            part = self.part_before(tuple(outputs), stop_at=())  # the program computes it from other values
        return part

    def _implied(self, part: _Part, values: ProgramValues) -> set[str]:
        """An input of a part that the others determine: what is drawn for it would contradict them."""
        inner = [name for name in part.inputs if name in self.produced]
        for name in inner:
            others = [self.counterpart(other) for other in inner if other != name] + values.numbers()
            own, needs_more = self.counterpart(name), values.depends_on_inputs
            if not needs_more(own, others) and needs_more(own, values.numbers()):
                return {name}
        return set()

    def part_before(self, outputs: tuple[str, ...], *, stop_at: Collection[str]) -> _Part:
        """The nodes that compute values from some others and from the graph's inputs."""
        nodes: set[int] = set()
        inputs: set[str] = set()
        open_names, seen = list(outputs), set(outputs)
        while open_names:
            node = self.produced[open_names.pop()]
            nodes.add(id(node))
            for name in set(_names_read(node)) - seen:
                seen.add(name)
                if name in self.produced and name not in stop_at:
                    open_names.append(name)
                elif name in self.produced or name in self.inputs:
                    inputs.add(name)
        in_order = (*self.inputs, *self.produced)
        return _Part(
            tuple(node for node in self.model.graph.node if id(node) in nodes),
            tuple(name for name in in_order if name in inputs),
            outputs,
        )

    def alone(self, part: _Part, feed: Mapping[str, NDArray[Any]]) -> bytes:
        """A model of a part."""
        read = {name for node in part.nodes for name in _names_read(node)}
        types = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in feed.items()}
        graph = helper.make_graph(
            part.nodes,
            "part",
            [helper.make_tensor_value_info(name, kind, None) for name, kind in types.items()],
            [onnx.ValueInfoProto(name=name) for name in part.outputs],
            [tensor for name, tensor in self.stored.items() if name in read],
        )
        model = helper.make_model(graph, opset_imports=self.model.opset_import, ir_version=self.model.ir_version)
        model.functions.extend(self.model.functions)
        return bytes(model.SerializeToString())


@dataclass(frozen=True)
class _Given:
    """What parts are given: samples, the numbers that they imply, and inner values of the range that samples give.

    Args:
        feed: Samples.
        captured: Name -> a tensor or number that the program computes of the samples.
        constants: Those that are the same for all samples.
        generator: Draws.
    """

    feed: Feed
    captured: Mapping[str, Any]
    constants: Collection[str]
    generator: np.random.Generator

    def numbers(self) -> dict[str, Any]:
        """The numbers."""
        return {name: value for name, value in self.captured.items() if not isinstance(value, Tensor)}

    def draw(self, name: str) -> NDArray[Any]:
        """A random array like the tensor of a name. Integers stay as they are: they may be indices."""
        array = np.ascontiguousarray(self.captured[name].numpy())
        if name in self.constants or array.dtype != np.float32 or not np.isfinite(array).all():
            return array
        if not array.any():
            return self.generator.standard_normal(array.shape, np.float32)
        alive = array[array != 0] if (array != 0).mean() < 0.5 else array.reshape(-1)
        jitter = JITTER * self.generator.standard_normal(array.shape, np.float32)
        drawn: NDArray[Any] = self.generator.choice(alive, array.shape) * (1 + jitter)
        return drawn


def _run(graph: _Graph, part: _Part, values: ProgramValues, given: _Given, run: RunAsWritten) -> Probe:
    nodes = tuple(node.name or node.output[0] for node in part.nodes)
    if not part.outputs:
        return Probe(nodes, float("inf"), "no value that depends on it is in PyTorch's program")
    outputs = [graph.counterpart(name) for name in part.outputs]
    samples = dict(zip(graph.inputs, arrays_of(given.feed), strict=True))
    try:
        inner = {name: given.draw(graph.counterpart(name)) for name in part.inputs if name not in samples}
        feed = {name: array for name, array in samples.items() if name in part.inputs} | inner
        found = run(graph.alone(part, feed), feed, part.outputs)
        replaced = {graph.counterpart(name): torch.from_numpy(array) for name, array in inner.items()}
        exact, rounded = (
            values.compute(outputs, given.feed, dtype, given.numbers() | replaced)
            for dtype in (torch.float64, torch.float32)
        )
    except ERRORS as failure:
        return Probe(nodes, float("inf"), reason_of(failure))
    ratio = 0.0
    for name, array in zip(outputs, found, strict=True):
        reference, way = exact[name].numpy(), rounded[name].numpy()
        expected = Expected(np.asarray(reference, np.float64), [way])
        error, _, mismatch = expected.compare(np.asarray(array))
        if mismatch:
            return Probe(nodes, float("inf"), mismatch)
        ratio = max(ratio, error / expected.floor, expected.worst_channel(np.asarray(array)))
    return Probe(nodes, ratio)


def _names_read(node: onnx.NodeProto) -> Iterator[str]:
    """The names that a node reads, in the graphs inside it, too."""
    yield from (name for name in node.input if name)
    for attribute in node.attribute:
        for inner in attribute.g.node:
            yield from _names_read(inner)
