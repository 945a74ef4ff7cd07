"""Wording: names out of somebody's file, in a sentence.

Opening: somebody's file is read by PyTorch's safe reader alone; what it asks for beyond is listed by name.

Nothing in a file is run, and a name is admitted only where the caller gives it.
"""

from __future__ import annotations

import io
import pickle
import pickletools
import pkgutil
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.serialization import get_safe_globals, get_unsafe_globals_in_checkpoint, safe_globals

from onward.errors import CheckpointError, UsageError, reason_of

__all__ = ["SAVE_ALONE", "listed", "open_document", "printable"]


def listed(items: Sequence[str]) -> str:
    """`a, b and c`."""
    names = [printable(item) for item in items]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def printable(name: str) -> str:
    """The name as a terminal may show it."""
    return name if name.isprintable() else ascii(name)  # somebody's file may hold what a terminal obeys


Admitted = tuple[Callable[..., Any], str]  # a class or function, and its name in the file
ARCHIVE = b"PK\x03\x04"
FOREIGN = {
    b"\x89HDF": "an HDF5 file, as Keras writes them",
    b"\x93NUMPY": "a NumPy array",
    b"\x1f\x8b": "compressed with gzip; unpack it first",
    b"<": "a web page, as a download that failed leaves it; download it again",
}
HEAD_BYTES = 1024
#: A whole network from before PyTorch 1.6: the text "module", memoised, and then its class.
LEGACY_MODULE = re.compile(rb"X\x06\x00\x00\x00module(?:q.|r....)?c", re.DOTALL)
#: Modules and functions that can run any command; none of a network's parts is among them.
NEVER_ADMITTED = frozenset(
    ("ctypes", "importlib", "nt", "os", "pickle", "posix", "pty", "runpy", "shutil", "socket", "subprocess", "sys")
    + ("builtins.__import__", "builtins.compile", "builtins.eval", "builtins.exec", "builtins.getattr", "builtins.open")
)
SAVE_ALONE = "Where it was made, torch.save(network.state_dict(), path) writes the weights alone."


def open_document(path: Path, allow_globals: Sequence[str]) -> tuple[Any, bool]:
    """What is in a file, and whether it is safetensors.

    Args:
        path: The file. What it is, is told by its content and not by its name.
        allow_globals: Names such as `argparse.Namespace` that it may use beyond tensors and plain data.

    Raises:
        CheckpointError: Missing, damaged, something else, or in need of a name that is not admitted.
        UsageError: A name in `allow_globals` cannot be imported, or is never admitted.
    """
    admitted = [item for name in allow_globals for item in _admit(name)]
    head = _head(path)
    if _is_safetensors(head):
        return _read_safetensors(path), True
    _check_head(head, path)
    if head.startswith(ARCHIVE):
        _check_archive(path)
    return _load(path, admitted), False


def _admit(name: str) -> Iterator[Admitted]:
    if not re.fullmatch(r"\w+(\.\w+)+", name):
        raise UsageError(f"--allow-global {name!r} is no name, expected package.module.Name.")
    if _never_admitted(name):
        raise UsageError(f"--allow-global {name} is refused: it can run any command. {SAVE_ALONE}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # files keep the names of their day, such as numpy.core
            value = pkgutil.resolve_name(name)
    except Exception as error:  # importing runs somebody's module, which can raise anything
        raise UsageError(
            f"--allow-global {name} cannot be imported: {reason_of(error)}. PYTHONPATH names the folder of its module."
        ) from error
    if isinstance(value, ModuleType) or not callable(value):
        raise UsageError(f"--allow-global {name} is neither a class nor a function.")
    yield value, name
    if value is np.dtype:  # one dtype, one class, which no file names: numpy.dtype("f4") is a numpy.dtypes.Float32DType
        yield from ((kind, f"numpy.dtypes.{kind.__name__}") for kind in vars(np.dtypes).values() if _is_dtype(kind))


def _never_admitted(name: str) -> bool:
    return name in NEVER_ADMITTED or name.partition(".")[0] in NEVER_ADMITTED


def _is_dtype(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, np.dtype)


def _head(path: Path) -> bytes:
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; weights are a file.")
    if not path.exists():
        raise CheckpointError(f"{path} does not exist.")
    if not path.is_file():
        raise CheckpointError(f"{path} is no regular file.")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not head:
        raise CheckpointError(f"{path} is empty.")
    return head


def _is_safetensors(head: bytes) -> bool:
    # the length of a JSON header as eight bytes, then the header; longer than 100 MB is refused by safetensors too
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000


def _check_head(head: bytes, path: Path) -> None:
    if head.startswith(b"version ") and b"\noid sha256:" in head:
        raise CheckpointError(
            f"{path} is a pointer of Git LFS, not the weights themselves: `git lfs pull` puts the file in its place."
        )
    for magic, name in FOREIGN.items():
        if head.startswith(magic):
            raise CheckpointError(f"{path} holds no weights that PyTorch wrote: it is {name}.")
    if head[257:262] == b"ustar":
        raise CheckpointError(f"{path} is a tar archive; unpack it, and name the file of weights in it.")
    if _is_text(head):
        raise CheckpointError(f"{path} holds no weights: it is a text file, beginning {_first_line(head)!r}.")


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < HEAD_BYTES - 3:  # else a character was cut in two
            return False
        text = head[: error.start].decode()
    return all(character.isprintable() or character in "\t\r\n\f" for character in text)


def _first_line(head: bytes) -> str:
    return head.decode(errors="ignore").splitlines()[0][:40]


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{path} is cut short or damaged: {reason_of(error)}.") from error
    if "constants.pkl" in names:
        raise CheckpointError(
            f"{path} is TorchScript, a program and not weights alone. In PyTorch, "
            f"torch.save(torch.jit.load(path).state_dict(), other_path) takes them out."
        )
    if names & {"archive_format", "serialized_exported_program.json"}:
        raise CheckpointError(
            f"{path} is a .pt2, an exported program and not weights alone. In PyTorch, "
            f"torch.save(torch.export.load(path).state_dict, other_path) takes them out."
        )
    if "data.pkl" not in names:
        raise CheckpointError(f"{path} is an archive that torch.save did not write; unpack it if weights are in it.")


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        entries: Mapping[str, Any] = load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is cut short or damaged: {reason_of(error)}.") from error
    return entries


def _load(path: Path, admitted: Sequence[Admitted]) -> Any:
    # leaving safe_globals takes its names away, those too that were there before
    added: list[Callable[..., Any] | Admitted] = [item for item in admitted if item not in get_safe_globals()]
    try:
        # an open file, as torch goes by the suffix of a path; its warnings are about what might fail, and that is seen
        with path.open("rb") as file, safe_globals(added), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise _refusal(path, error, {name for _, name in admitted}) from error
    except Exception as error:  # a damaged pickle raises anything, and so do admitted classes
        raise CheckpointError(f"{path} is cut short or damaged: {reason_of(error).rstrip('.')}.") from error


def _refusal(path: Path, error: pickle.UnpicklingError, admitted: set[str]) -> CheckpointError:
    names = sorted((_unsafe_globals(path) | _named_globals(error)) - admitted)
    if never := [name for name in names if _never_admitted(name)]:
        return CheckpointError(
            f"{path} asks for {listed(names)}, so it was not opened. What can run any command is never admitted, and "
            f"such is {listed(never)}: do not open this file elsewhere, unless you know who made it. {SAVE_ALONE}"
        )
    if LEGACY_MODULE.search(_head(path)):
        return CheckpointError(
            f"{path} is a whole network in the format before PyTorch 1.6, which cannot be opened safely. {SAVE_ALONE}"
        )
    if names:
        return CheckpointError(
            f"{path} asks for more than tensors and plain data, so it was not opened: it needs {listed(names)}. "
            f"`--allow-global NAME` admits it, if you trust the file; every name must be given."
        )
    found = re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
    reason = (found[1] if found else reason_of(error)).rstrip(". ")
    return CheckpointError(
        f"{path} is damaged, or of a kind that PyTorch's safe reader does not take: {reason}. {SAVE_ALONE}"
    )


def _unsafe_globals(path: Path) -> set[str]:
    """Every name that the file asks for and that is not safe by default; nothing is imported for it."""
    try:
        with path.open("rb") as file:
            is_archive = file.read(len(ARCHIVE)) == ARCHIVE
            file.seek(0)
            return set(get_unsafe_globals_in_checkpoint(file if is_archive else _archive_of(_legacy_pickle(file))))
    except Exception:  # the pickle is damaged or of another protocol; torch.load's own error then names the first
        return set()


def _named_globals(error: pickle.UnpicklingError) -> set[str]:
    # a class that was never named, but came out of an admitted function, is in the second message
    names = re.findall(r"GLOBAL ([\w.]+)|allowlisted[^<]*but got <class '([\w.]+)'>", str(error))
    found = {(one or other).rstrip(".") for one, other in names}
    return {name if "." in name else f"builtins.{name}" for name in found}  # torch cuts this one off


def _legacy_pickle(file: BinaryIO) -> bytes:
    """The bytes of the object in a file from before PyTorch 1.6: the fourth pickle, after number, version and system.

    Source: torch, `torch.serialization._legacy_save`.
    """
    ends = [0]
    for _ in range(4):
        for _ in pickletools.genops(file):
            pass
        ends.append(file.tell())
    file.seek(ends[-2])
    return file.read(ends[-1] - ends[-2])


def _archive_of(pickled: bytes) -> io.BytesIO:
    """The archive that torch.save would have made of it, which is all that get_unsafe_globals_in_checkpoint takes."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
    data.seek(0)
    return data
