"""Mutations: a file as a fault, or somebody who means harm, would leave it. The same generator gives the same bytes."""

from __future__ import annotations

import io
import json
import random
import re
import struct
import zipfile
from collections.abc import Callable
from typing import Any

__all__ = ["mutate"]

MAX_STEPS = 4
#: What programs of TorchScript may say, and networks do not.
CODE_WORDS = (b"torch.save", b"torch.from_file", b"torch.load", b"ops.aten", b"ops.prim", b"getattr", b"fork",
              b"annotate", b"__torch__", b"print", b"0", b"-1", b"9223372036854775807", b"1000000000", b"None", b"[]",
              b"\"deed\"", b"uninitialized", b"while True:", b"raise", b"torch.empty", b"torch.as_strided",
              b"torch.set_", b"torch.zeros")  # fmt: skip
#: No mutation lets a file grow beyond this.
MAX_BYTES = 1 << 20
NUMBERS = (0, 1, 2, 3, 4, 7, 8, 16, 64, 127, 128, 255, 256, 32767, 65535, 65536, 2**24, 2**31 - 1, 2**31, 2**32 - 1,
           2**40, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1)  # fmt: skip
TEXT_NUMBERS = (b"0", b"-1", b"1e999", b"NaN", b"-0.0", b"9" * 19, b"9" * 400, b"2147483648", b"1e-320", b"Infinity")
HOSTILE_TEXTS = ("", "\x1b[31m", "\x07", "\u202etxt.exe", "\ud800", "\udcff", "a\nb", "=1+1", "../../x", "/etc/passwd",
                 "C:\\x", "nul\0", "x" * 5000, "classes", "batch", "any", "NaN", "\U0010ffff", "__class__")  # fmt: skip
HOSTILE_VALUES: tuple[Any, ...] = (None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**64, 10**30, 0.5, -0.0, 1e308,
                                   float("nan"), float("inf"), [], {}, [[]], [{}], {"": None},
                                   *HOSTILE_TEXTS)  # fmt: skip


def mutate(data: bytes, others: list[bytes], generator: random.Random) -> bytes:
    """A file that is made of another one by some mutations.

    Args:
        data: The whole file.
        others: Further files of its kind, to splice with.
        generator: Decides everything.
    """
    for _ in range(generator.randint(1, MAX_STEPS)):
        mutation = _bytes_mutation(others)
        if data[:2] == b"PK" and generator.random() < 0.8:
            mutation = _in_zip
        elif data[:1] in b"{[" and generator.random() < 0.8:
            mutation = _in_json
        data = mutation(data, generator)[:MAX_BYTES]
    return data


def _bytes_mutation(others: list[bytes]) -> Callable[[bytes, random.Random], bytes]:
    def mutation(data: bytes, generator: random.Random) -> bytes:
        if not data:
            return generator.randbytes(generator.randint(0, 64))
        if generator.random() < 0.1:
            return _splice(data, generator.choice(others), generator)
        return generator.choice((_flip, _flip, _set, _cut, _remove, _repeat, _number, _number, _digits))(
            data, generator
        )

    return mutation


def _flip(data: bytes, generator: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(generator.choice((1, 1, 2, 8))):
        changed[_place(data, generator)] ^= 1 << generator.randrange(8)
    return bytes(changed)


def _set(data: bytes, generator: random.Random) -> bytes:
    at = _place(data, generator)
    return data[:at] + generator.choice((b"\0", b"\xff", b"\n", b"\x80", generator.randbytes(4))) + data[at + 1 :]


def _cut(data: bytes, generator: random.Random) -> bytes:
    return data[: generator.randrange(len(data))]


def _remove(data: bytes, generator: random.Random) -> bytes:
    at, length = _place(data, generator), _length(generator)
    return data[:at] + data[at + length :]


def _repeat(data: bytes, generator: random.Random) -> bytes:
    at, length = _place(data, generator), _length(generator)
    return data[:at] + data[at : at + length] * generator.choice((2, 3, 50)) + data[at + length :]


def _number(data: bytes, generator: random.Random) -> bytes:
    """A number of 1 to 8 bytes, of either order, becomes an extreme one."""
    size = generator.choice((1, 2, 4, 8))
    order = generator.choice("<>")
    number = generator.choice(NUMBERS) & ((1 << 8 * size) - 1)
    at = _place(data, generator)
    return data[:at] + struct.pack(order + {1: "B", 2: "H", 4: "I", 8: "Q"}[size], number) + data[at + size :]


def _digits(data: bytes, generator: random.Random) -> bytes:
    """A number in text becomes an extreme one."""
    found = list(re.finditer(rb"\d+", data[:65536]))
    if not found:
        return _number(data, generator)
    start, end = generator.choice(found).span()
    return data[:start] + generator.choice(TEXT_NUMBERS) + data[end:]


def _splice(data: bytes, other: bytes, generator: random.Random) -> bytes:
    start = generator.randrange(len(other) + 1)
    return data[: _place(data, generator)] + other[start:]


def _place(data: bytes, generator: random.Random) -> int:
    """A position, half of the time among the first bytes, where headers are, or the last, where directories are."""
    size = len(data)
    match generator.randrange(4):
        case 0:
            return generator.randrange(min(size, 256))
        case 1:
            return size - 1 - generator.randrange(min(size, 256))
    return generator.randrange(size)


def _length(generator: random.Random) -> int:
    return generator.choice((1, 2, 4, 16, 64, 1024))


def _in_json(data: bytes, generator: random.Random) -> bytes:
    """Change one value at any depth of a JSON document; now and then its encoding, or how deep it is nested."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError, SystemError):
        return _bytes_mutation([data])(data, generator)
    if generator.random() < 0.03:
        depth = generator.choice((70, 2000, 200_000))
        return generator.choice((b"[" * depth + b"]" * depth, b'{"a":' * depth, data + b"[" * depth))
    _change(document, generator)
    text = json.dumps(document)
    if generator.random() < 0.03:
        return text.encode(generator.choice(("utf-16", "utf-32", "utf-16-le", "utf-8-sig")), "surrogatepass")
    return text.encode()


def _change(document: Any, generator: random.Random) -> None:
    while isinstance(document, (dict, list)) and document:
        key: Any = generator.choice(list(document) if isinstance(document, dict) else range(len(document)))
        inner = document[key]
        if not isinstance(inner, (dict, list)) or not inner or generator.random() < 0.3:
            match generator.randrange(8):
                case 0:
                    del document[key]
                case 1 if isinstance(document, list):
                    document.insert(key, inner)
                case 2 if isinstance(inner, list) and inner:
                    inner.pop()
                case _:
                    document[key] = generator.choice(HOSTILE_VALUES)
            return
        document = inner


def _in_zip(data: bytes, generator: random.Random) -> bytes:
    """Change one member of an archive, whose checksums are made to hold; or the bytes of the archive itself."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [(item, archive.read(item)) for item in archive.infolist()]
    except Exception:  # an archive that was changed before: anything may be wrong with it
        return _bytes_mutation([data])(data, generator)
    if not members or generator.random() < 0.2:
        return _bytes_mutation([data])(data, generator)
    at = generator.randrange(len(members))
    item, content = members[at]
    match generator.randrange(10):
        case 0:
            del members[at]
        case 1:
            members.insert(at, (item, content))
        case 2:
            name = generator.choice((generator.choice(members)[0].filename, *HOSTILE_TEXTS)).replace("\0", "0")
            members[at] = (zipfile.ZipInfo(name.encode(errors="replace").decode()[:1000]), content)
        case 3:
            item.compress_type = (
                zipfile.ZIP_DEFLATED if item.compress_type == zipfile.ZIP_STORED else zipfile.ZIP_STORED
            )
        case _:
            inner = _in_json if content[:1] in (b"{", b"[") else _bytes_mutation([body for _, body in members])
            if item.filename.endswith(".py") and generator.random() < 0.8:
                inner = _in_code
            members[at] = (item, inner(content, generator))
    return _zipped(members)


def _in_code(data: bytes, generator: random.Random) -> bytes:
    """Change, repeat or move a line of a program, or a word in it, so that most of what comes out can be parsed."""
    lines = data.split(b"\n")
    at, other = generator.randrange(len(lines)), generator.randrange(len(lines))
    match generator.randrange(6):
        case 0:
            del lines[at]
        case 1:
            lines.insert(other, lines[at])
        case 2:
            lines[at], lines[other] = lines[other], lines[at]
        case _:
            words = re.findall(rb"[\w.]+", data)
            found = [*re.finditer(rb"[\w.]+", lines[at])]
            if found and words:
                start, end = generator.choice(found).span()
                word = generator.choice((generator.choice(words), generator.choice(CODE_WORDS)))
                lines[at] = lines[at][:start] + word + lines[at][end:]
    return b"\n".join(lines)


def _zipped(members: list[tuple[zipfile.ZipInfo, bytes]]) -> bytes:
    import warnings

    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w") as archive:
        warnings.simplefilter("ignore")  # a name that is there twice
        for item, content in members:
            archive.writestr(item, content, compress_type=item.compress_type)
    return stream.getvalue()
