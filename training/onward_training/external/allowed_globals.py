"""Allowed globals: the classes and functions that a file of torch.save needs, and those that the user allows.

Each name of `--allow-global` allows one class or function. `torch.nn` allows the classes of networks at once: those of
torch.nn, with the functions of torch.nn.functional, and the networks in the code that `--model` names.
"""

from __future__ import annotations

import importlib
import io
import pickletools
import pkgutil
import re
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
from torch import nn
from torch.serialization import get_unsafe_globals_in_checkpoint

from onward.errors import UsageError, reason_of
from onward_training.external.texts import SAVE_ALONE
from onward_training.model_names import LIBRARIES
from onward_training.models.user_code import module_of

__all__ = ["ARCHIVE", "NETWORKS", "Allowed", "allow", "is_never_allowed", "needed_globals", "network_classes"]

#: A class or function, and its name in the file.
Allowed = tuple[Callable[..., Any], str]
#: The value of `--allow-global` for the classes of networks.
NETWORKS = "torch.nn"
ARCHIVE = b"PK\x03\x04"
#: Modules and functions that can run any command. No part of a network is among them.
NEVER_ADMITTED = frozenset(
    ("ctypes", "importlib", "nt", "os", "pickle", "posix", "pty", "runpy", "shutil", "socket", "subprocess", "sys")
    + ("builtins.__import__", "builtins.compile", "builtins.eval", "builtins.exec", "builtins.getattr", "builtins.open")
)


def allow(name: str) -> Iterator[Allowed]:
    """The class or function of a name of `--allow-global`, and what belongs to it.

    Raises:
        UsageError: The name cannot be imported, or is never allowed.
    """
    if not re.fullmatch(r"\w+(\.\w+)+", name):
        raise UsageError(f"--allow-global {name!r} is not a name, expected e.g. package.module.Name.")
    if is_never_allowed(name):
        raise UsageError(f"--allow-global {name} is refused, because it can run any command. {SAVE_ALONE}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # old files use deprecated names, such as numpy.core
            value = pkgutil.resolve_name(name)
    except Exception as error:  # the imported module can raise anything
        raise UsageError(
            f"--allow-global {name} cannot be imported: {reason_of(error)}. Add the folder of its module to PYTHONPATH."
        ) from error
    if isinstance(value, ModuleType) or not callable(value):
        raise UsageError(f"--allow-global {name} is not a class or function.")
    yield value, name
    if value is np.dtype:  # each dtype has a class that no file names: numpy.dtype("f4") is a numpy.dtypes.Float32DType
        yield from ((kind, f"numpy.dtypes.{kind.__name__}") for kind in vars(np.dtypes).values() if _is_dtype(kind))


def is_never_allowed(name: str) -> bool:
    """Whether it can run any command."""
    return name in NEVER_ADMITTED or name.partition(".")[0] in NEVER_ADMITTED


def _is_dtype(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, np.dtype)


def network_classes(needed: Iterable[str], model: str | None) -> list[Allowed]:
    """Those of the needed names that are classes of networks. Nothing is imported but the code that `model` names.

    Args:
        needed: Names in the file.
        model: The network's name, see `onward_training.models`. Its module's classes are found whatever module the file
            says they are from, because a script calls itself `__main__`.
    """
    own = _module(model) if model is not None and ":" in model else None
    found = ((_class_of_torch(name) or _class_of_model(name, own), name) for name in needed)
    return [(value, name) for value, name in found if value is not None]


def _class_of_torch(name: str) -> Callable[..., Any] | None:
    """A class that torch.nn defines, or a function that computes with tensors."""
    if not name.startswith(("torch.nn.", "torch._C._nn.")):
        return None
    value, place = _loaded(name), name.rpartition(".")[0]
    if isinstance(value, type):
        return value if f"{value.__module__}.".startswith("torch.nn.") else None
    is_function = callable(value) and place in ("torch.nn.functional", "torch._C._nn")
    is_defined_there = getattr(value, "__module__", None) in ("torch.nn.functional", "torch._C._nn")
    return value if is_function and is_defined_there and not name.rpartition(".")[2].startswith("_") else None


def _class_of_model(name: str, own: ModuleType | None) -> type[nn.Module] | None:
    """A network that the model's module holds under that name, or that its package defines."""
    if own is None:
        return None
    package = own.__name__.partition(".")[0]
    value = _loaded(name) if name.startswith(f"{package}.") else getattr(own, name.rpartition(".")[2], None)
    return value if isinstance(value, type) and issubclass(value, nn.Module) else None


def _module(model: str) -> ModuleType:
    library = model.partition(":")[0]
    if library not in LIBRARIES:
        return module_of(model)
    return importlib.import_module("torchvision.models" if library == "torchvision" else library)


def _loaded(name: str) -> Any:
    """What a name means, if its module is loaded."""
    place, _, attribute = name.rpartition(".")
    return getattr(sys.modules.get(place), attribute, None)


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
