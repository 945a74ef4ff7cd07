"""Operator libraries: what registers operators that PyTorch itself does not have, such as torchvision's.

A TorchScript or .pt2 file names its operators only; PyTorch can open it where the library was imported before. The
manifest says which library an artifact requires. Nothing but the libraries named here is ever imported on the word of
a manifest: importing any other module would run code that a stranger chose.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
from collections.abc import Sequence

from onward.errors import BackendError, install_command

__all__ = ["LIBRARIES", "import_libraries", "library_of", "missing_library"]

#: Namespace of the operators -> the library that registers them when it is imported.
LIBRARIES = {"torchvision": "torchvision"}
#: How `torch.jit.load` and `torch.export.load` name an operator that nobody has registered.
UNKNOWN = re.compile(r"Unknown builtin op: (\w+)::|failed to resolve torch\.ops\.(\w+)\.")


def library_of(error: BackendError) -> str | None:
    """The library that registers the operator for which an artifact does not open; None for another reason."""
    found = UNKNOWN.search(str(error))
    return LIBRARIES.get(found[1] or found[2]) if found else None


def missing_library(names: Sequence[str]) -> str | None:
    """The first of the libraries that is not installed; None where all are, or where one is unknown."""
    known = [name for name in names if name in LIBRARIES.values()]
    return next((name for name in known if importlib.util.find_spec(name) is None), None)


def import_libraries(names: Sequence[str]) -> None:
    """Import the libraries that an artifact requires.

    Raises:
        BackendError: One is not installed, or is none of `LIBRARIES`.
    """
    for name in names:
        if name not in LIBRARIES.values():
            raise BackendError(
                f"the artifact requires {name!r}, expected {' or '.join(LIBRARIES.values())}: Onward imports no other "
                "library for an artifact."
            )
        if missing_library([name]):
            raise BackendError(
                f"the artifact requires {name}, which registers some of its operators and is not installed here: "
                f"`{install_command(name)}` adds it."
            )
        importlib.import_module(name)
