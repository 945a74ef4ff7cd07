"""Weights limits: a small file of torch.save must not fill the memory, neither while it is opened nor when it is used.

torch.save stores every value once and uncompressed. What is opened can still be far larger than the file: compressed
members, a tensor that repeats one value by a stride of 0, a list that holds one list many times, a call that makes
bytes out of a number.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from onward.errors import CheckpointError
from onward.limits import allowed_bytes, mebibytes

__all__ = ["MAX_PICKLE_BYTES", "check_document", "check_members", "check_pickle"]

ADVICE = "PyTorch writes no such file. If you trust it, open it in PyTorch and save its state_dict again."
#: The part of a file that holds names, numbers and texts. It takes up to 20 times its size in memory.
MAX_PICKLE_BYTES = 16 << 20
#: Names, numbers and texts of a file may be used in many places: together up to so many bytes, or 8 times their size.
FREE_PLAIN_BYTES = 4 << 20
MAX_REPETITION = 8
#: Functions that PyTorch's safe reader calls with any arguments, and that take memory for a number.
TAKES_MEMORY = (
    b"builtins\nbytearray\n",
    b"torch._utils\n_rebuild_device_tensor_from_cpu_tensor\n",
    b"torch._utils\n_rebuild_device_tensor_from_numpy\n",
    b"torch._utils\n_rebuild_wrapper_subclass\n",
)
#: Codecs that make longer bytes out of bytes, again and again. Pickled bytes use `latin1`.
LENGTHENING = frozenset(("base64", "base64_codec", "base_64", "hex", "hex_codec", "quopri", "quopri_codec", "uu"))
#: Opcode of an empty container -> the bytes that it takes in memory.
CONTAINERS = {b"]": 64, b"}": 72, b"\x8f": 224}
#: What a container takes for each entry, and any number.
ENTRY_BYTES = 8
LEAVES = (str, bytes, int, float, complex, type(None), type, torch.dtype, torch.device)
PLAIN_CONTAINERS = (Mapping, list, tuple, set, frozenset)
#: Python's calls nest no deeper than 1,000, and what shows a document calls itself for each level.
MAX_DEPTH = 100


def check_members(archive: zipfile.ZipFile, path: Path) -> None:
    """Check that an archive is about as large as what is in it.

    Raises:
        CheckpointError: It would unpack to far more.
    """
    stored_bytes = path.stat().st_size
    unpacked_bytes = sum(member.file_size for member in archive.infolist())
    if unpacked_bytes > (limit := allowed_bytes(stored_bytes)):
        raise CheckpointError(
            f"{path} has {mebibytes(stored_bytes)} and would unpack to {mebibytes(unpacked_bytes)}, at most "
            f"{mebibytes(limit)}. {ADVICE}"
        )
    for member in archive.infolist():
        if member.filename.endswith("data.pkl"):
            if member.file_size > MAX_PICKLE_BYTES:
                raise CheckpointError(
                    f"{path} has {mebibytes(member.file_size)} of names, numbers and texts beside its tensors, at most "
                    f"{mebibytes(MAX_PICKLE_BYTES)}. Save the network's state_dict alone."
                )
            check_pickle(archive.read(member), path)


def check_pickle(pickled: bytes, path: Path) -> None:
    """Check that loading a pickle takes about as much memory as its size.

    Raises:
        CheckpointError: It calls a function that takes any amount, or holds far too many containers.
    """
    named = [name for name in TAKES_MEMORY if name in pickled]
    if b"_codecs\nencode\n" in pickled:
        texts = (str(value).lower().replace("-", "_") for _, value, _ in _opcodes(pickled) if isinstance(value, str))
        named += [b"_codecs\nencode\n"] if LENGTHENING.intersection(texts) else []
    if named:
        function = ".".join(named[0].decode().split())
        raise CheckpointError(f"{path} calls {function}, which can take any amount of memory. {ADVICE}")
    needed_bytes = sum(pickled.count(opcode) * size_bytes for opcode, size_bytes in CONTAINERS.items())
    if needed_bytes > (limit := allowed_bytes(len(pickled))):
        raise CheckpointError(
            f"{path} holds containers that take {mebibytes(needed_bytes)}, at most {mebibytes(limit)} for the "
            f"{mebibytes(len(pickled))} of names, numbers and texts in it. {ADVICE}"
        )


def check_document(document: Any, path: Path) -> None:
    """Check that what a file holds takes about as much memory as the file, also once each value is written out.

    Raises:
        CheckpointError: A tensor or a container repeats far more than is stored, or is too deep.
    """
    stored_bytes = path.stat().st_size
    found = _Sizes(path)
    tensor_bytes, plain_bytes = found.of(document)
    if tensor_bytes > (limit := allowed_bytes(stored_bytes)):
        raise CheckpointError(
            f"{path} has {mebibytes(stored_bytes)}, but its tensors take {mebibytes(tensor_bytes)}, at most "
            f"{mebibytes(limit)}: they repeat few values by a stride of 0, or share them. {ADVICE}"
        )
    if plain_bytes > (limit := FREE_PLAIN_BYTES + MAX_REPETITION * found.stored_bytes):
        raise CheckpointError(
            f"{path} holds {mebibytes(found.stored_bytes)} of names, numbers and texts, but they take "
            f"{mebibytes(plain_bytes)} written out, at most {mebibytes(limit)}: lists or dictionaries in it hold the "
            f"same one many times. {ADVICE}"
        )


class _Sizes:
    """How much memory containers take once they are written out: their tensors, and all else.

    Each container is looked at once, however often it is held.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stored_bytes = 0
        self.known: dict[int, tuple[int, int] | None] = {}
        self.texts: set[int] = set()

    def of(self, root: Any) -> tuple[int, int]:
        """Not recursive: containers may be nested deeper than Python's calls."""
        stack = [(root, iter(_containers(root)))]
        self.known[id(root)] = None  # not yet complete
        while stack:
            if len(stack) > MAX_DEPTH:
                raise CheckpointError(
                    f"{self.path} holds containers in containers, more than {MAX_DEPTH} deep. {ADVICE}"
                )
            value, inner = stack[-1]
            for item in inner:
                if id(item) not in self.known:
                    self.known[id(item)] = None
                    stack.append((item, iter(_containers(item))))
                    break
                if self.known[id(item)] is None and isinstance(item, PLAIN_CONTAINERS):  # an object may know its owner
                    raise CheckpointError(f"{self.path} holds a container that contains itself. {ADVICE}")
            else:
                stack.pop()
                self.known[id(value)] = self._size(value)
        size = self.known[id(root)]
        assert size is not None
        return size

    def _size(self, container: Any) -> tuple[int, int]:
        tensor_bytes, plain_bytes = 0, ENTRY_BYTES
        self.stored_bytes += ENTRY_BYTES
        for part in _parts(container):
            if isinstance(part, Tensor):
                tensor_bytes += 0 if part.is_meta else part.numel() * part.element_size()
            elif id(part) in self.known:
                inner = self.known[id(part)] or (0, 0)
                tensor_bytes, plain_bytes = tensor_bytes + inner[0], plain_bytes + inner[1]
            num_bytes = ENTRY_BYTES
            if isinstance(part, (str, bytes)):
                plain_bytes += len(part)
                num_bytes += 0 if id(part) in self.texts else len(part)
                self.texts.add(id(part))
            plain_bytes += ENTRY_BYTES
            self.stored_bytes += num_bytes
        return tensor_bytes, plain_bytes


def _parts(value: Any) -> list[Any]:
    """What a container holds."""
    parts: list[Any] = []
    if isinstance(value, Mapping):
        parts += [*value.keys(), *value.values()]
    elif isinstance(value, (list, tuple, set, frozenset)):
        parts += value
    return parts + list(getattr(value, "__dict__", {}).values())


def _containers(value: Any) -> list[Any]:
    return [part for part in _parts(value) if not isinstance(part, (Tensor, *LEAVES))]


def _opcodes(pickled: bytes) -> Iterable[tuple[pickletools.OpcodeInfo, Any, int | None]]:
    try:
        yield from pickletools.genops(pickled)
    except ValueError:  # damaged: the reader says where
        return
