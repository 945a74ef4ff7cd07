"""OnnxHeader: what an ONNX file states about itself, read without its weights and without the onnx package.

Only inputs, outputs, operators and metadata are read. Weights are skipped, so that the time depends on the number of
nodes and not on the size of the file.

Source: onnx/onnx.proto3 of ONNX 1.23, for the numbers of the fields.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from onward.bundle.protobuf import Field, ProtobufReader, Span
from onward.errors import BundleError

__all__ = ["ExternalData", "OnnxHeader", "TensorValue", "read_header"]

#: Element type -> name, bits of one element (0: strings, which have no fixed size).
DTYPES = {
    1: ("float32", 32),
    2: ("uint8", 8),
    3: ("int8", 8),
    4: ("uint16", 16),
    5: ("int16", 16),
    6: ("int32", 32),
    7: ("int64", 64),
    8: ("string", 0),
    9: ("bool", 8),
    10: ("float16", 16),
    11: ("float64", 64),
    12: ("uint32", 32),
    13: ("uint64", 64),
    14: ("complex64", 64),
    15: ("complex128", 128),
    16: ("bfloat16", 16),
    17: ("float8e4m3fn", 8),
    18: ("float8e4m3fnuz", 8),
    19: ("float8e5m2", 8),
    20: ("float8e5m2fnuz", 8),
    21: ("uint4", 4),
    22: ("int4", 4),
    23: ("float4e2m1", 4),
    24: ("float8e8m0", 8),
    25: ("uint2", 2),
    26: ("int2", 2),
}
DEFAULT_DOMAIN = "ai.onnx"
#: Graphs within graphs. protobuf refuses messages deeper than 100, and a graph within a graph takes three.
MAX_DEPTH = 33
#: The most axes that an array of numpy can have.
MAX_AXES = 64
EXTERNAL = 1


class _Model:
    IR_VERSION, PRODUCER, PRODUCER_VERSION, GRAPH, OPSET, METADATA, FUNCTION = 1, 2, 3, 7, 8, 14, 25


class _Graph:
    NODE, NAME, INITIALIZER, INPUT, OUTPUT, SPARSE_INITIALIZER = 1, 2, 5, 11, 12, 15


class _Node:
    OP_TYPE, ATTRIBUTE, DOMAIN = 4, 5, 7


class _Attribute:
    TENSOR, GRAPH, TENSORS, GRAPHS, SPARSE_TENSOR, SPARSE_TENSORS = 5, 6, 10, 11, 22, 23


class _Tensor:
    DIMS, DTYPE, STRINGS, NAME, RAW, EXTERNAL_DATA, LOCATION = 1, 2, 6, 8, 9, 13, 14


class _Type:
    TENSOR, SEQUENCE, MAP, SPARSE_TENSOR, OPTIONAL = 1, 4, 5, 8, 9


@dataclass(frozen=True)
class TensorValue:
    """An input or an output.

    Args:
        name: Its name in a feed or in the outputs.
        dtype: `uint8`, `float32` …; in words for what is not a tensor: `sequence of float32`.
        shape: For each axis a number, the name of a dynamic size, or None where the file does not say; None where the
            file does not state the shape.
    """

    name: str
    dtype: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True)
class ExternalData:
    """Another file that holds weights of the model.

    Args:
        location: Its path, as the model states it; it may not be safe to open.
        num_tensors: How many tensors it holds.
        size_bytes: The size that it must have at least.
    """

    location: str
    num_tensors: int
    size_bytes: int


@dataclass(frozen=True)
class OnnxHeader:
    """What an ONNX file states about itself.

    Args:
        size_bytes: Size of the file.
        ir_version: Version of the file format.
        producer: The program that wrote the file.
        producer_version: Version of that program.
        opsets: Domain -> version of its operators; the default domain is `ai.onnx`.
        metadata: Key -> value.
        inputs: Inputs of the graph that are not initializers.
        outputs: Outputs of the graph.
        nodes: Operator -> number of nodes, including those of graphs within nodes and of functions; an operator outside
            the default domain is written with its domain, `com.microsoft.Gelu`.
        num_initializers: Number of weights and constants of all graphs.
        initializers_bytes: Their size, in this file or in others.
        external: Other files that hold some of them.
    """

    size_bytes: int
    ir_version: int
    producer: str
    producer_version: str
    opsets: Mapping[str, int]
    metadata: Mapping[str, str]
    inputs: tuple[TensorValue, ...]
    outputs: tuple[TensorValue, ...]
    nodes: Mapping[str, int]
    num_initializers: int
    initializers_bytes: int
    external: tuple[ExternalData, ...]

    @property
    def num_nodes(self) -> int:
        """The number of all nodes."""
        return sum(self.nodes.values())


def read_header(path: Path) -> OnnxHeader:
    """Read the header of an ONNX file.

    Args:
        path: The file. Files that it names are not opened.

    Raises:
        BundleError: The file cannot be read, is not an ONNX model, or was cut short.
    """
    try:
        with path.open("rb", buffering=0) as stream:
            return _Reading(ProtobufReader(stream, str(path))).model()
    except (OSError, ValueError) as error:  # a ValueError is a name that no file can have
        raise BundleError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error


@dataclass
class _Reading:
    """What was read so far."""

    reader: ProtobufReader
    ir_version: int = 0
    producer: str = ""
    producer_version: str = ""
    opsets: dict[str, int] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    inputs: list[TensorValue] = field(default_factory=list)
    outputs: list[TensorValue] = field(default_factory=list)
    nodes: Counter[str] = field(default_factory=Counter)
    initializer_names: set[str] = field(default_factory=set)
    num_initializers: int = 0
    initializers_bytes: int = 0
    external: dict[str, ExternalData] = field(default_factory=dict)

    def model(self) -> OnnxHeader:
        has_graph = False
        for item in self.reader.fields(self.reader.whole):
            match item.number:
                case _Model.IR_VERSION:
                    self.ir_version = self.reader.number(item)
                case _Model.PRODUCER:
                    self.producer = self.reader.text(item)
                case _Model.PRODUCER_VERSION:
                    self.producer_version = self.reader.text(item)
                case _Model.GRAPH:
                    has_graph = True
                    self.graph(item, depth=0)
                case _Model.OPSET:
                    domain, version = self.opset(self.reader.span(item))
                    self.opsets[domain] = version
                case _Model.METADATA:
                    key, value = self.entry(self.reader.span(item))
                    self.metadata[key] = value
                case _Model.FUNCTION:
                    self.function(item)
        if not has_graph or self.ir_version < 1:
            raise self.reader.broken(self.reader.whole.end, "the file is at its end and held no graph and IR version")
        return OnnxHeader(
            size_bytes=self.reader.whole.size_bytes,
            ir_version=self.ir_version,
            producer=self.producer,
            producer_version=self.producer_version,
            opsets=self.opsets,
            metadata=self.metadata,
            inputs=tuple(value for value in self.inputs if value.name not in self.initializer_names),
            outputs=tuple(self.outputs),
            nodes=dict(sorted(self.nodes.items(), key=lambda entry: (-entry[1], entry[0]))),
            num_initializers=self.num_initializers,
            initializers_bytes=self.initializers_bytes,
            external=tuple(self.external.values()),
        )

    def opset(self, span: Span) -> tuple[str, int]:
        domain, version = "", 0
        for item in self.reader.fields(span):
            if item.number == 1:
                domain = self.reader.text(item)
            elif item.number == 2:
                version = self.reader.number(item)
        return domain or DEFAULT_DOMAIN, version

    def entry(self, span: Span) -> tuple[str, str]:
        texts = {item.number: self.reader.text(item) for item in self.reader.fields(span) if item.number in (1, 2)}
        return texts.get(1, ""), texts.get(2, "")

    def graph(self, graph: Field, *, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise self.reader.broken(graph.position, f"graphs are within graphs, more than {MAX_DEPTH} deep")
        for item in self.reader.fields(self.reader.span(graph)):
            match item.number:
                case _Graph.NODE:
                    self.node(self.reader.span(item), depth)
                case _Graph.INITIALIZER | _Graph.SPARSE_INITIALIZER:
                    tensor = self.sparse_tensor if item.number == _Graph.SPARSE_INITIALIZER else self.tensor
                    name, size_bytes = tensor(self.reader.span(item))
                    self.num_initializers += 1
                    self.initializers_bytes += size_bytes
                    if depth == 0:
                        self.initializer_names.add(name)
                case _Graph.INPUT if depth == 0:
                    self.inputs.append(self.value(self.reader.span(item)))
                case _Graph.OUTPUT if depth == 0:
                    self.outputs.append(self.value(self.reader.span(item)))

    def function(self, function: Field) -> None:
        for item in self.reader.fields(self.reader.span(function)):
            if item.number == 7:
                self.node(self.reader.span(item), depth=1)

    def node(self, span: Span, depth: int) -> None:
        op_type, domain = "", ""
        for item in self.reader.fields(span):
            match item.number:
                case _Node.OP_TYPE:
                    op_type = self.reader.text(item)
                case _Node.DOMAIN:
                    domain = self.reader.text(item)
                case _Node.ATTRIBUTE:
                    self.attribute(self.reader.span(item), depth)
        self.nodes[op_type if domain in ("", DEFAULT_DOMAIN) else f"{domain}.{op_type}"] += 1

    def attribute(self, span: Span, depth: int) -> None:
        for item in self.reader.fields(span):
            match item.number:
                case _Attribute.GRAPH | _Attribute.GRAPHS:
                    self.graph(item, depth=depth + 1)
                case _Attribute.TENSOR | _Attribute.TENSORS:
                    self.tensor(self.reader.span(item))
                case _Attribute.SPARSE_TENSOR | _Attribute.SPARSE_TENSORS:
                    self.sparse_tensor(self.reader.span(item))

    def sparse_tensor(self, span: Span) -> tuple[str, int]:
        """Name and size of its values and indices together."""
        parts = {
            item.number: self.tensor(self.reader.span(item)) for item in self.reader.fields(span) if item.number < 3
        }
        return parts.get(1, ("", 0))[0], sum(size_bytes for _, size_bytes in parts.values())

    def tensor(self, span: Span) -> tuple[str, int]:
        """Name and size; a file that holds its values is added to `external`."""
        name, dtype, location, stored_bytes = "", 0, 0, 0
        dims: list[int] = []
        entries: dict[str, str] = {}
        for item in self.reader.fields(span):
            match item.number:
                case _Tensor.DIMS:
                    dims += self.reader.numbers(item)
                    if len(dims) > MAX_AXES or min(dims, default=0) < 0:
                        raise self.reader.broken(item.position, "a tensor has a size below 0, or far too many axes")
                case _Tensor.DTYPE:
                    dtype = self.reader.number(item)
                case _Tensor.NAME:
                    name = self.reader.text(item)
                case _Tensor.RAW | _Tensor.STRINGS:
                    stored_bytes += self.reader.span(item).size_bytes
                case _Tensor.EXTERNAL_DATA:
                    key, value = self.entry(self.reader.span(item))
                    entries[key] = value
                case _Tensor.LOCATION:
                    location = self.reader.number(item)
        num_bits = DTYPES.get(dtype, ("", 0))[1]
        size_bytes = (math.prod(dims) * num_bits + 7) // 8 if num_bits else stored_bytes
        if location == EXTERNAL:
            self.note_external(span, entries, size_bytes)
        return name, size_bytes

    def note_external(self, span: Span, entries: Mapping[str, str], size_bytes: int) -> None:
        place = entries.get("location", "")
        numbers = [entries.get("offset", "0"), entries.get("length", str(size_bytes))]
        if not place or not all(text.isascii() and text.isdigit() and len(text) < 20 for text in numbers):
            raise self.reader.broken(span.start, "a tensor is in another file, and it is not said where")
        known = self.external.get(place, ExternalData(place, 0, 0))
        reach = max(known.size_bytes, sum(map(int, numbers)))
        self.external[place] = ExternalData(place, known.num_tensors + 1, reach)

    def value(self, span: Span) -> TensorValue:
        name, dtype, shape = "", "unknown", None
        for item in self.reader.fields(span):
            if item.number == 1:
                name = self.reader.text(item)
            elif item.number == 2:
                dtype, shape = self.type(item, depth=0)
        return TensorValue(name, dtype, shape)

    def type(self, type: Field, *, depth: int) -> tuple[str, tuple[int | str | None, ...] | None]:
        if depth > MAX_DEPTH:
            raise self.reader.broken(type.position, f"a type is made of types, more than {MAX_DEPTH} deep")
        for item in self.reader.fields(self.reader.span(type)):
            match item.number:
                case _Type.TENSOR | _Type.SPARSE_TENSOR:
                    return self.tensor_type(self.reader.span(item))
                case _Type.SEQUENCE | _Type.OPTIONAL | _Type.MAP:
                    word = {_Type.SEQUENCE: "sequence of", _Type.OPTIONAL: "optional", _Type.MAP: "map to"}[item.number]
                    element = 2 if item.number == _Type.MAP else 1
                    inner = [part for part in self.reader.fields(self.reader.span(item)) if part.number == element]
                    return f"{word} {self.type(inner[-1], depth=depth + 1)[0] if inner else 'unknown'}", None
        return "unknown", None

    def tensor_type(self, span: Span) -> tuple[str, tuple[int | str | None, ...] | None]:
        dtype, shape = "unknown", None
        for item in self.reader.fields(span):
            if item.number == 1:
                number = self.reader.number(item)
                dtype = DTYPES.get(number, (f"type {number}", 0))[0]
            elif item.number == 2:
                shape = tuple(
                    self.axis(self.reader.span(axis))
                    for axis in self.reader.fields(self.reader.span(item))
                    if axis.number == 1
                )
        return dtype, shape

    def axis(self, span: Span) -> int | str | None:
        size: int | str | None = None
        for item in self.reader.fields(span):
            if item.number == 1:
                size = self.reader.number(item)
            elif item.number == 2:
                size = self.reader.text(item)
        return size
