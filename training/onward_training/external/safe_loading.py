"""Safe loading: open a file of torch.save or safetensors without running code in it.

Only PyTorch's safe reader opens it. For what it does not know, classes and functions that the file names, it gets
stand-ins (`stand_ins.py`): none of them is imported or called.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.serialization import safe_globals

from onward.errors import CheckpointError, reason_of
from onward.limits import MAX_DOCUMENT_BYTES, mebibytes
from onward.zip_files import BROKEN_ZIP, open_zip
from onward_training.external.stand_ins import (
    ARCHIVE,
    StandIn,
    StandInDict,
    StandInList,
    needed_globals,
    stand_in,
)
from onward_training.external.texts import SAVE_ALONE, listed
from onward_training.weights_limits import MAX_PICKLE_BYTES, check_document, check_members, check_pickle

__all__ = ["open_document"]

OTHER_FORMATS = {
    b"\x89HDF": "an HDF5 file, such as Keras writes",
    b"\x93NUMPY": "a NumPy array",
    b"\x1f\x8b": "compressed with gzip; unpack it first",
    b"<": "a web page, probably of a failed download; download it again",
}
HEAD_BYTES = 1024
#: Modules and functions that can run any command. No part of a network is among them: a file that names one is an
#: attack, and is refused although its stand-in would do nothing.
RUNS_COMMANDS = frozenset(
    ("ctypes", "importlib", "nt", "os", "pickle", "posix", "pty", "runpy", "shutil", "socket", "subprocess", "sys")
    + ("builtins.__import__", "builtins.compile", "builtins.eval", "builtins.exec", "builtins.getattr", "builtins.open")
)
#: The start of a whole network saved before PyTorch 1.6: the text "module", memoised, and then its class.
LEGACY_MODULE = re.compile(rb"X\x06\x00\x00\x00module(?:q.|r....)?c", re.DOTALL)


def open_document(path: Path) -> tuple[Any, bool]:
    """Read the content of a file, and whether it is safetensors.

    Args:
        path: The file. Its content decides the format, not its name.

    Raises:
        CheckpointError: The file is missing, damaged, of another format, or made to run a command.
    """
    head = _head(path)
    if _is_safetensors(head):
        header_bytes = int.from_bytes(head[:8], "little")
        if header_bytes > MAX_DOCUMENT_BYTES:
            raise CheckpointError(
                f"{path} is safetensors with a header of {mebibytes(header_bytes)}, at most "
                f"{mebibytes(MAX_DOCUMENT_BYTES)}. Save fewer tensors, or less metadata, in one file."
            )
        return _read_safetensors(path), True
    _check_head(head, path)
    if head.startswith(ARCHIVE):
        _check_archive(path)
    else:
        with path.open("rb") as file:
            check_pickle(file.read(MAX_PICKLE_BYTES), path)  # before PyTorch 1.6: pickles, then the tensors
    return _load(path), False


def _head(path: Path) -> bytes:
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder, expected a weights file.")
    if not path.exists():
        raise CheckpointError(f"{path} does not exist.")
    if not path.is_file():
        raise CheckpointError(f"{path} is not a regular file.")
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from error
    if not head:
        raise CheckpointError(f"{path} is empty.")
    return head


def _is_safetensors(head: bytes) -> bool:
    # eight bytes with the length of a JSON header, then the header; safetensors, too, refuses one above 100 MB
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000


def _check_head(head: bytes, path: Path) -> None:
    if head.startswith(b"version ") and b"\noid sha256:" in head:
        raise CheckpointError(f"{path} is a Git LFS pointer, not the weights: `git lfs pull` downloads them.")
    for magic, name in OTHER_FORMATS.items():
        if head.startswith(magic):
            raise CheckpointError(f"{path} is not a file of PyTorch weights: it is {name}.")
    if head[257:262] == b"ustar":
        raise CheckpointError(f"{path} is a tar archive; unpack it, and pass the weights file in it.")
    if _is_text(head):
        raise CheckpointError(f"{path} holds no weights: it is a text file that begins with {_first_line(head)!r}.")


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < HEAD_BYTES - 3:  # otherwise the last character was cut
            return False
        text = head[: error.start].decode()
    return all(character.isprintable() or character in "\t\r\n\f" for character in text)


def _first_line(head: bytes) -> str:
    return head.decode(errors="ignore").splitlines()[0][:40]


def _check_archive(path: Path) -> None:
    try:
        with open_zip(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
            if "data.pkl" in names:
                check_members(archive, path)
    except (OSError, *BROKEN_ZIP) as error:
        raise CheckpointError(f"{path} is cut short or damaged: {reason_of(error)}.") from error
    if "constants.pkl" in names:
        raise CheckpointError(
            f"{path} is TorchScript, a program with weights. In PyTorch, "
            f"torch.save(torch.jit.load(path).state_dict(), other_path) extracts them."
        )
    if names & {"archive_format", "serialized_exported_program.json"}:
        raise CheckpointError(
            f"{path} is a .pt2, an exported program with weights. In PyTorch, "
            f"torch.save(torch.export.load(path).state_dict, other_path) extracts them."
        )
    if "data.pkl" not in names:
        raise CheckpointError(f"{path} is an archive, but not of torch.save: unpack it if it holds a weights file.")


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    try:
        entries: Mapping[str, Any] = load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is cut short or damaged: {reason_of(error)}.") from error
    return entries


def _load(path: Path) -> Any:
    """What PyTorch's safe reader makes of the file, with stand-ins for what it does not know."""
    names = needed_globals(path)
    if never := sorted(filter(_runs_commands, names)):
        raise CheckpointError(
            f"{path} needs {listed(never)}, which can run any command, so it was not opened. Do not open this file "
            f"elsewhere, unless you know who made it. {SAVE_ALONE}"
        )
    kinds: dict[str, type] = dict.fromkeys(names, StandIn)
    while True:
        try:
            # an open file: torch decides by the suffix of a path. Failures are reported, so its warnings are not
            added: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
                (stand_in(name, kind), name) for name, kind in kinds.items()
            ]
            with path.open("rb") as file, safe_globals(added), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                document = torch.load(file, map_location="cpu", weights_only=True)
            break
        except pickle.UnpicklingError as error:
            name, kind = _container(error)
            if kinds.get(name) is not StandIn:
                raise _refusal(path, error) from error
            kinds[name] = kind
        except Exception as error:  # a damaged pickle can raise anything
            raise CheckpointError(f"{path} is cut short or damaged: {reason_of(error).rstrip('.')}.") from error
    check_document(document, path)
    return document


def _runs_commands(name: str) -> bool:
    return name in RUNS_COMMANDS or name.partition(".")[0] in RUNS_COMMANDS


def _container(error: pickle.UnpicklingError) -> tuple[str, type]:
    """The name of the stand-in that the reader wants to fill as a list or dictionary, and what can be filled."""
    found = re.search(r"Can only (append|extend|SETITEM)\b.* got <class '(.+)'>", str(error))
    if found is None:
        return "", StandIn
    return found[2], StandInDict if found[1] == "SETITEM" else StandInList


def _refusal(path: Path, error: pickle.UnpicklingError) -> CheckpointError:
    if LEGACY_MODULE.search(_head(path)):
        return CheckpointError(
            f"{path} is a whole network saved before PyTorch 1.6, a format that cannot be opened safely. {SAVE_ALONE}"
        )
    found = re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
    reason = (found[1] if found else reason_of(error)).rstrip(". ")
    return CheckpointError(f"{path} is damaged, or PyTorch's safe reader does not support it: {reason}. {SAVE_ALONE}")
