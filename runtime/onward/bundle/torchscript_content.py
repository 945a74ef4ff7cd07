"""What a TorchScript file says, checked before `torch.jit.load` reads it, without PyTorch.

It is an archive of code and of pickles with tensors. PyTorch's own reader of these pickles makes nothing but tensors,
plain values and objects of classes in the code. It does not check that a tensor lies within its bytes; here it is.
"""

from __future__ import annotations

import io
import math
import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from onward.bundle.torch_archive import check_repeated, read_archive, refuse, write_archive
from onward.bundle.torchscript_code import ROOT, WHAT, check_code
from onward.errors import BackendError

__all__ = ["check_torchscript"]

CODE = re.compile(rf"code/({ROOT}(?:/\w+)*)\.py")
TENSOR = re.compile(r"(?:data|constants)/\d+")
PICKLES = ("data", "constants")
MARKS = ("version", "byteorder", ".data/version", ".data/serialization_id")
#: Not needed to run it, and not opened: the example of a trace, and where each line of code comes from.
LEFT_OUT = re.compile(r"traced_inputs(?:\.pkl|/\d+)|code/.*\.debug_pkl")
#: Type of a storage -> bytes of one number.
STORAGES = {
    "BoolStorage": 1, "ByteStorage": 1, "CharStorage": 1, "ShortStorage": 2, "HalfStorage": 2, "BFloat16Storage": 2,
    "IntStorage": 4, "FloatStorage": 4, "LongStorage": 8, "DoubleStorage": 8,
    "ComplexFloatStorage": 8, "ComplexDoubleStorage": 16,
}  # fmt: skip
LISTS = ("build_intlist", "build_doublelist", "build_boollist", "build_tensorlist")


def check_torchscript(data: bytes) -> bytes:
    """Check a TorchScript file.

    Returns:
        An archive of what was checked; open this one.

    Raises:
        BackendError: The file is damaged, or no TorchScript.
        BundleError: It says what no file of Onward says.
    """
    archive = read_archive(data, WHAT, [f"{part}.pkl" for part in PICKLES])
    members = {name: content for name, content in archive.items() if not LEFT_OUT.fullmatch(name)}
    code: dict[str, str] = {}
    for name, content in members.items():
        if found := CODE.fullmatch(name):
            code[found[1].replace("/", ".")] = bytes(content).decode("utf-8", "replace")
        elif name not in (*MARKS, *(f"{part}.pkl" for part in PICKLES)) and not TENSOR.fullmatch(name):
            refuse(WHAT, f"it holds {name!r}, expected code and tensors")
    classes = check_code(code)
    for part in PICKLES:
        _check_pickle(members, part, classes)
    return write_archive(members)


def _check_pickle(members: Mapping[str, memoryview], part: str, classes: frozenset[str]) -> None:
    name = f"{part}.pkl"
    reader = _Reader(members, part, classes)
    try:
        reader.load()
    except (pickle.UnpicklingError, EOFError, TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        raise BackendError(f"PyTorch cannot open the {WHAT} file: {name} is damaged ({error}).") from error
    except (RecursionError, OverflowError, MemoryError) as error:
        refuse(WHAT, f"{name} holds a structure that no network has ({type(error).__name__})")
    check_repeated(reader.repeated_bytes, WHAT)


class _Storage(NamedTuple):
    num_values: int
    value_bytes: int


class _Object:
    """Stands for an object of a class in the code; its state is read and dropped."""

    def __setstate__(self, state: object) -> None:
        pass


class _Reader(pickle.Unpickler):
    """Reads a pickle of `torch.jit.save`: every name in it stands for a function of this file.

    Args:
        members: The archive's.
        part: `data` or `constants`: the pickle, and the folder of its tensors.
        classes: Qualified names of what the code defines.
    """

    def __init__(self, members: Mapping[str, memoryview], part: str, classes: frozenset[str]) -> None:
        super().__init__(io.BytesIO(members[f"{part}.pkl"]))
        self._members, self._part, self._classes = members, part, classes
        self.repeated_bytes = 0

    def find_class(self, module: str, name: str, /) -> Any:
        """The stand-in for a name in the pickle."""
        if f"{module}.{name}" in self._classes:
            return _Object
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return self._check_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch.jit._pickle" and name in LISTS:
            return list
        if (module, name) == ("torch.jit._pickle", "restore_type_tag"):
            return _check_type
        return refuse(WHAT, f"{self._part}.pkl names {module}.{name}")

    def persistent_load(self, pid: Any) -> _Storage:
        """A storage: where the numbers of a tensor are."""
        kind, value_bytes, key, _, num_values = pid
        record = self._members.get(f"{self._part}/{key}")
        if kind != "storage" or record is None or type(num_values) is not int or type(value_bytes) is not int:
            raise ValueError(f"a tensor is in {self._part}/{key}, which is not there")
        if not 0 <= num_values * value_bytes <= len(record):
            refuse(WHAT, f"a tensor has {num_values:,} numbers in {self._part}/{key}, which has {len(record):,} bytes")
        return _Storage(num_values, value_bytes)

    def _check_tensor(
        self, storage: _Storage, offset: int, sizes: Sequence[int], strides: Sequence[int], *more: object
    ) -> None:
        if not all(type(number) is int and number >= 0 for number in (offset, *sizes, *strides)):
            raise ValueError("a tensor has sizes that are no whole numbers")
        last = offset + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
        if math.prod(sizes) and last >= storage.num_values:
            refuse(WHAT, f"a tensor reaches number {last:,} of {storage.num_values:,}")
        size_bytes = math.prod(sizes) * storage.value_bytes
        self.repeated_bytes += max(0, size_bytes - storage.num_values * storage.value_bytes)


def _check_type(value: Any, type_name: str) -> Any:
    if not isinstance(type_name, str) or ROOT in type_name:
        refuse(WHAT, f"a value is of the type {str(type_name)[:80]}")
    return value
