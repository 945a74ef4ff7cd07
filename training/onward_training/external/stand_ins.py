"""Stand-ins: objects without behaviour, in place of those whose classes and functions a file of torch.save names.

Nothing is imported and nothing is called: a stand-in keeps the state that the file gives it. So files are read that
hold their program's options, paths or numpy numbers beside the weights. Of a whole network, which `torch.save(network)`
writes, the weights are in the states of its modules' stand-ins.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from torch.serialization import get_unsafe_globals_in_checkpoint

from onward.printable import printable
from onward_training.weights_limits import MAX_PICKLE_BYTES

__all__ = [
    "ARCHIVE",
    "StandIn",
    "StandInDict",
    "StandInList",
    "is_network",
    "needed_globals",
    "stand_in",
    "state_dict_of",
]

ARCHIVE = b"PK\x03\x04"
#: What each module of a network has.
PARTS = ("_parameters", "_buffers", "_modules")


class StandIn:
    """Stands in for an object of any class; its attributes are the state in the file."""

    def __new__(cls, *arguments: object, **named: object) -> StandIn:
        """Without a look at the arguments."""
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None:
        """As `object.__setstate__` would: a dictionary, or one of attributes and one of slots."""
        for part in state if isinstance(state, tuple) else (state,):
            if isinstance(part, Mapping):
                vars(self).update((name, value) for name, value in part.items() if isinstance(name, str))


class StandInDict:
    """Stands in for a kind of dictionary, such as `collections.defaultdict`: the safe reader fills a plain one."""

    def __new__(cls, *arguments: object, **named: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        """An empty one."""
        return OrderedDict()


class StandInList:
    """Stands in for a kind of list, such as `collections.deque`."""

    def __new__(cls, *arguments: object, **named: object) -> list[Any]:  # type: ignore[misc]
        """An empty one."""
        return []


def stand_in(name: str, kind: type = StandIn) -> type:
    """A class of this name without behaviour. Messages show its name, so it has no character that a terminal obeys."""
    module, _, own_name = printable(name).rpartition(".")
    return type(own_name, (kind,), {"__module__": module})


def is_network(value: object) -> bool:
    """Whether it stands in for a torch.nn.Module."""
    return isinstance(value, StandIn) and all(isinstance(vars(value).get(part), Mapping) for part in PARTS)


def state_dict_of(network: StandIn) -> dict[str, Any]:
    """The entries of a network's state_dict.

    Raises:
        ValueError: A module contains itself, or there is no end of them.

    Source: torch.nn.Module, `state_dict`.
    """
    state: dict[str, Any] = {}
    stack, num_characters = [("", network)], 0
    while stack:
        prefix, module = stack.pop()
        parameters, buffers, modules = (vars(module)[part] for part in PARTS)
        left_out = vars(module).get("_non_persistent_buffers_set") or ()
        kept = {name: value for name, value in buffers.items() if name not in left_out}
        inner = [(name, value) for name, value in modules.items() if is_network(value)]
        num_characters += sum(len(prefix) + len(str(name)) for name, _ in (*parameters.items(), *kept.items(), *inner))
        if num_characters > MAX_PICKLE_BYTES:
            raise ValueError("a module in it contains itself, or others too often")
        state |= {f"{prefix}{name}": value for name, value in (parameters | kept).items() if value is not None}
        stack += [(f"{prefix}{name}.", value) for name, value in reversed(inner)]
    return state


def needed_globals(path: Path) -> set[str]:
    """Every name that the file needs and that is not safe by default; nothing is imported to find them."""
    try:
        with path.open("rb") as file:
            is_archive = file.read(len(ARCHIVE)) == ARCHIVE
            file.seek(0)
            return set(get_unsafe_globals_in_checkpoint(file if is_archive else _archive_of(_legacy_pickle(file))))
    except Exception:  # the pickle is damaged or of another protocol; torch.load's own error names the first one
        return set()


def _legacy_pickle(file: BinaryIO) -> bytes:
    """The object's bytes in a file from before PyTorch 1.6: the fourth pickle, after number, version and system.

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
    """The archive that torch.save would have written: get_unsafe_globals_in_checkpoint takes nothing else."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/version", "3\n")
    data.seek(0)
    return data
