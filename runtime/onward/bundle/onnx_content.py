"""What an ONNX file would open beside itself, found before a library opens the file.

onnxruntime and OpenVINO open whatever file an ONNX file names as external data, relative to the working directory where
they got the model as bytes. Only what the bundle's manifest names may be opened, from the bytes whose digests were
compared. This reads the bytes themselves, weights are stepped over: 2 ms for a ResNet-18.

Source: onnx/onnx.proto3 of ONNX 1.23, for the numbers of the fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath

from onward.bundle.artifact import Artifact
from onward.bundle.bundle import Bundle
from onward.errors import BackendError, BundleError

__all__ = ["check_onnx", "read_onnx"]

#: Message -> number of a field -> the message in it.
MESSAGES = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse tensor", 23: "sparse tensor"},
    "sparse tensor": {1: "tensor", 2: "tensor"},
}
OP_TYPE = 4
EXTERNAL_DATA, DATA_LOCATION = 13, 14
#: Operators that load a program compiled for a device, from a file or from the model.
COMPILED = (b"EPContext",)
#: How onnxruntime tells its own format, from the fifth byte on, whatever the file is called.
ORT_FORMAT = b"ORTM"
#: protobuf refuses messages that are deeper.
MAX_DEPTH = 100
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5


def check_onnx(data: bytes, beside: Mapping[str, bytes], name: str = "the ONNX file") -> None:
    """Refuse an ONNX file that would open a file other than those beside it.

    Args:
        data: The content of the file.
        beside: File name -> content, of the files that belong to it.
        name: The file in error messages.

    Raises:
        BackendError: It is not ONNX.
        BundleError: It names another file, or more of one than there is; it holds a compiled program.
    """
    if data[4:8] == ORT_FORMAT:
        raise BackendError(f"Onward cannot open {name}: it is in onnxruntime's own format, expected ONNX.")
    try:
        for external in _external_data(data, 0, len(data), "model", 0):
            _check_external(external, beside, name)
    except (IndexError, RecursionError) as error:
        raise BackendError(f"Onward cannot open {name}: it is damaged or no ONNX model ({error}).") from error


def read_onnx(bundle: Bundle, artifact: Artifact) -> dict[str, bytes]:
    """Read an ONNX artifact for a copy of it: path in the bundle -> content, of its file and those beside it.

    Raises:
        BundleError: A file was changed, or it would open a file other than these.
    """
    model = bundle.read(artifact.file)
    beside = {file.path: bundle.read(file) for file in bundle.beside(artifact)}
    check_onnx(model, {PurePosixPath(path).name: data for path, data in beside.items()}, artifact.file.path)
    return {artifact.file.path: model} | beside


def _check_external(entries: Mapping[bytes, bytes], beside: Mapping[str, bytes], name: str) -> None:
    location = entries.get(b"location", b"").decode("utf-8", "replace")
    if location not in beside:
        known = f"expected {' or '.join(sorted(beside))}" if beside else "expected none: all weights in the file itself"
        raise BundleError(f"{name} has weights in the file {location!r}, {known}. It was not opened.")
    numbers = [entries.get(key, b"0") for key in (b"offset", b"length")]
    if not all(text.isdigit() and len(text) < 20 for text in numbers):
        raise BundleError(f"{name} does not say where its weights in {location} begin and end.")
    end, size = sum(map(int, numbers)), len(beside[location])
    if end > size:
        raise BundleError(f"{name} has weights up to byte {end:,} of {location}, which has {size:,} bytes.")


def _external_data(data: bytes, at: int, end: int, message: str, depth: int) -> Iterator[dict[bytes, bytes]]:
    """The entries of each tensor below a message that has its values in another file."""
    if depth > MAX_DEPTH:
        raise IndexError("messages within messages")
    if message == "tensor":
        if entries := _entries(data, at, end):
            yield entries
        return
    within = MESSAGES[message]
    for number, start, stop in _fields(data, at, end):
        if number in within:
            yield from _external_data(data, start, stop, within[number], depth + 1)
        elif message == "node" and number == OP_TYPE and data[start:stop] in COMPILED:
            raise BundleError(
                f"the ONNX file holds a program that was compiled for a device ({data[start:stop].decode()}), which "
                "can run code. It was not opened: ask for the ONNX file from which it was made."
            )


def _entries(data: bytes, at: int, end: int) -> dict[bytes, bytes]:
    entries: dict[bytes, bytes] = {}
    is_external = False
    for number, start, stop in _fields(data, at, end):
        if number == EXTERNAL_DATA:
            pair = {field: data[first:last] for field, first, last in _fields(data, start, stop)}
            if pair.get(1, b"") in entries:
                raise BundleError("the ONNX file says twice where the values of a tensor are. It was not opened.")
            entries[pair.get(1, b"")] = pair.get(2, b"")
        is_external |= number == DATA_LOCATION and data[start:stop] != b"\0"
    return entries or ({b"location": b""} if is_external else {})


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number of each field of a message, and where its value begins and ends."""
    while at < end:
        key, at = _varint(data, at)
        kind = key & 7
        if kind == LENGTH_DELIMITED:
            length, at = _varint(data, at)
            stop = at + length
        elif kind == VARINT:
            stop = _varint(data, at)[1]
        elif kind in (FIXED32, FIXED64):
            stop = at + (4 if kind == FIXED32 else 8)
        else:
            raise IndexError("a wire type that ONNX does not use")
        if stop > end or not 8 <= key < 1 << 32:
            raise IndexError("a field ends beyond its message, or has no number")
        yield key >> 3, at, stop
        at = stop


def _varint(data: bytes, at: int) -> tuple[int, int]:
    byte = data[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift = byte & 0x7F, 7
    while True:
        at += 1
        byte = data[at]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at + 1
        shift += 7
        if shift > 63:
            raise IndexError("a number that does not end")
