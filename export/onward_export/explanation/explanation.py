"""Explanation: the error along the graph of an ONNX file, and the first node at which it leaves the noise floor.

Each value of the file is compared with the same value of the exported program, interpreted in float64; the names are
equal. The noise floor of a value is the error of PyTorch's own float32 there.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
from numpy.typing import NDArray
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node

from onward.backends.onnxruntime_backend import known_inexactness, run_as_written
from onward.feed import Feed, arrays_of
from onward.parity import MAX_NOISE_RATIO
from onward_export.explanation.candidate import RunAsWritten, load_graph, run_candidate
from onward_export.explanation.expected import Expected, expected_values
from onward_export.explanation.origins import Origin, origins_of

__all__ = ["ComparedValue", "Explanation", "expected_for", "explain"]

#: A floor over few values may be low by chance: so the root-mean-square error must have left it too, ...
MIN_RMS_RATIO = 2.0
#: ... unless the largest error is too large for chance, as where one channel of many is wrong.
BEYOND_CHANCE = 10.0
#: A channel has a floor over still fewer values.
BEYOND_CHANCE_IN_A_CHANNEL = 100.0


@dataclass(frozen=True)
class ComparedValue:
    """One value of the file that was compared with the program.

    Args:
        value: Its name in the file and in the program.
        node: The name of the ONNX node that computes it.
        op_type: The type of that node.
        others: Names of the ONNX nodes between it and the compared values before it: one operator of PyTorch may
            become several nodes.
        origins: The operators of PyTorch between the same values, in order.
        inputs: The compared values before it.
        error: The largest absolute error against float64.
        floor: The largest absolute error of PyTorch's float32.
        rms_ratio: The root-mean-square error over PyTorch's.
        mismatch: What is wrong with its shape or its numbers; empty if nothing is.
        channel_ratio: The largest error over the floor among its channels.
    """

    value: str
    node: str
    op_type: str
    others: tuple[str, ...]
    origins: tuple[Origin, ...]
    inputs: tuple[str, ...]
    error: float
    floor: float
    rms_ratio: float
    mismatch: str = ""
    channel_ratio: float = 0.0

    @property
    def ratio(self) -> float:
        """The error over the floor."""
        return self.error / self.floor

    @property
    def is_above_floor(self) -> bool:
        """Whether the error is above the noise floor here."""
        if math.isnan(self.ratio) or self.ratio > BEYOND_CHANCE or self.channel_ratio > BEYOND_CHANCE_IN_A_CHANNEL:
            return True
        return self.ratio > MAX_NOISE_RATIO and self.rms_ratio > MIN_RMS_RATIO

    @property
    def origin(self) -> str:
        """The operators of PyTorch that it comes from, as text."""
        return ", then ".join(map(str, self.origins))

    def to_json(self) -> dict[str, Any]:
        """All parts, and the ratio."""
        return asdict(self) | {"ratio": self.ratio}


@dataclass(frozen=True)
class Explanation:
    """The error along a graph.

    Args:
        points: The compared values, in the order of the file.
        broken: Name and type of the first node with which the graph does not run, and the reason; else None.
        before_broken: The names of the nodes between it and the compared values before it: the fault may lie there.
    """

    points: tuple[ComparedValue, ...]
    broken: tuple[str, str, str] | None = None
    before_broken: tuple[str, ...] = ()

    @property
    def first(self) -> ComparedValue | None:
        """The first value whose error is above the noise floor."""
        return next((point for point in self.points if point.is_above_floor), None)

    @property
    def before(self) -> ComparedValue | None:
        """The value with the largest ratio among those that the first one is computed from."""
        if self.first is None:
            return None
        inputs = [point for point in self.points if point.value in self.first.inputs]
        return max(inputs, key=lambda point: point.ratio, default=None)

    def sentence(self) -> str:
        """Where the error begins, in a sentence."""
        point, before = self.first, self.before
        if point is None:
            if self.broken is not None:
                node, op_type, reason = self.broken
                earlier = f", after {', '.join(self.before_broken)}" if self.before_broken else ""
                return f"The first node with which the graph does not run is {node} ({op_type}){earlier}: {reason}"
            return "No node of the file is above the noise floor when onnxruntime's own optimisations are off."
        others = f", which became {len(point.others) + 1} nodes" if point.others else ""
        if point.mismatch:
            return f"The error begins at {point.node} ({point.op_type}), from {point.origin}{others}: {point.mismatch}."
        begins = f"The error begins at {point.node} ({point.op_type}), from {point.origin}{others}: it is"
        if point.ratio <= MAX_NOISE_RATIO < point.channel_ratio:
            return f"{begins} {point.channel_ratio:,.1f} times PyTorch's own in one channel."
        earlier = f", {before.ratio:,.1f} before it" if before is not None else ""
        return (
            f"{begins} {point.error:.1e} there, {point.ratio:,.1f} times PyTorch's own{earlier}."
            f"{known_inexactness(point.op_type)}"
        )

    def to_json(self) -> dict[str, Any]:
        """The sentence and every compared value."""
        first = self.first
        return {
            "sentence": self.sentence(),
            "first": first.to_json() if first else None,
            "points": [point.to_json() for point in self.points],
        }


def expected_for(path: Path, program: ExportedProgram, feed: Feed) -> dict[str, Expected]:
    """The values of a program that `explain` compares with a file's, for several files of one program.

    Args:
        path: A correct ONNX file of the program.
        program: The program that it was translated from, after the exporter's decompositions.
        feed: The samples that `explain` is given.
    """
    model = load_graph(path)
    renamed = _outputs(program, model)
    names = {renamed.get(name, name) for node in model.graph.node for name in node.output if name}
    return expected_values(program, feed, names & origins_of(program).keys())


def explain(
    path: Path,
    program: ExportedProgram,
    feed: Feed,
    run: RunAsWritten = run_as_written,
    *,
    expected: Mapping[str, Expected] | None = None,
) -> Explanation:
    """Compare every value of a file with its counterpart in the program, where it has one.

    Args:
        path: The ONNX file.
        program: The program that it was translated from, after the exporter's decompositions.
        feed: A few samples, preferably those with the largest errors.
        run: Runs a graph node by node; in another process, if a node may crash onnxruntime.
        expected: The program's values for these samples, if they were computed already (`expected_for`).

    Returns:
        The error along the graph, as far as the file runs.
    """
    model = load_graph(path)
    origins = origins_of(program)
    produced = {name: node for node in model.graph.node for name in node.output if name}
    renamed = _outputs(program, model)
    names = [name for name in produced if renamed.get(name, name) in origins]
    inputs = dict(zip((item.name for item in model.graph.input), arrays_of(feed), strict=True))
    found, broken = run_candidate(model, inputs, names, run)
    if expected is None:
        expected = expected_values(program, feed, {renamed.get(name, name) for name in names})
    comparable = [name for name in names if renamed.get(name, name) in expected]
    segments = _Segments(produced, set(comparable), program, {renamed.get(name, name) for name in comparable}, origins)
    points = tuple(
        segments.point(name, renamed.get(name, name), found[name], expected[renamed.get(name, name)])
        for name in comparable
        if name in found
    )
    if broken is None:
        return Explanation(points)
    node = model.graph.node[broken.index]
    before = segments.before(next(name for name in node.output if name))
    return Explanation(points, (_name(node), node.op_type, broken.reason), tuple(map(_name, before)))


def _name(node: onnx.NodeProto) -> str:
    return str(node.name or node.output[0])


def _outputs(program: ExportedProgram, model: onnx.ModelProto) -> dict[str, str]:
    """Output of the file -> node of the program; their names differ."""
    names = [str(name) for name in program.graph_signature.user_outputs]
    return dict(zip((item.name for item in model.graph.output), names, strict=False))


class _Segments:
    """The nodes between compared values, in the file and in the program."""

    def __init__(
        self,
        produced: Mapping[str, onnx.NodeProto],
        comparable: set[str],
        program: ExportedProgram,
        counterparts: set[str],
        origins: Mapping[str, Origin],
    ) -> None:
        self.produced = produced
        self.comparable = comparable
        self.nodes = {node.name: node for node in program.graph.nodes}
        self.counterparts = counterparts
        self.origins = origins

    def point(self, name: str, counterpart: str, found: NDArray[Any], expected: Expected) -> ComparedValue:
        node = self.produced[name]
        others, inputs = self._before(name)
        error, rms_ratio, mismatch = expected.compare(found)
        return ComparedValue(
            value=name,
            node=node.name or name,
            op_type=node.op_type,
            others=tuple(dict.fromkeys(map(_name, others))),
            origins=tuple(dict.fromkeys(self._origins(counterpart))),
            inputs=tuple(dict.fromkeys(inputs)),
            error=error,
            floor=expected.floor,
            rms_ratio=rms_ratio,
            mismatch=mismatch,
            channel_ratio=0.0 if mismatch else expected.worst_channel(found),
        )

    def before(self, name: str) -> list[onnx.NodeProto]:
        """The nodes between a value and the compared values before it."""
        return self._before(name)[0]

    def _before(self, name: str) -> tuple[list[onnx.NodeProto], list[str]]:
        """The nodes between a value and the compared values before it, and those values."""
        others: list[onnx.NodeProto] = []
        inputs: list[str] = []
        open_names, seen = list(self.produced[name].input), set()
        while open_names:
            item = open_names.pop(0)
            if item in seen or item not in self.produced:
                continue
            seen.add(item)
            if item in self.comparable:
                inputs.append(item)
            else:
                others.append(self.produced[item])
                open_names += self.produced[item].input
        return others[::-1], inputs

    def _origins(self, counterpart: str) -> Iterator[Origin]:
        """The operators of the program between a value and the compared values before it, in order."""
        open_nodes: list[Node] = [self.nodes[counterpart]]
        found: list[Node] = []
        while open_nodes:
            node = open_nodes.pop(0)
            if node in found or node.op != "call_function":
                continue
            if node.name in self.counterparts and node.name != counterpart:
                continue
            found.append(node)
            open_nodes += node.all_input_nodes
        order = {node: at for at, node in enumerate(self.nodes.values())}
        for node in sorted(found, key=order.__getitem__):
            if node.name == counterpart or _computes(node):
                yield self.origins[node.name]


def _computes(node: Node) -> bool:
    """Whether an operator changes values, not only their arrangement or shape."""
    value = node.meta.get("val")
    moves = ("view", "permute", "transpose", "sym_size", "unsqueeze", "squeeze", "select", "clone", "alias", "slice")
    return (
        isinstance(value, Tensor) and value.is_floating_point() and not any(word in str(node.target) for word in moves)
    )
