"""Extensions: commands and inspectors that installed packages add to the command `onward`, through entry points.

The packages above this one, `onward_training` and `onward_export`, add theirs in the same way.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from typing import Any

from onward.cli.console import remark

__all__ = ["COMMANDS_GROUP", "INSPECTORS_GROUP", "load_extensions"]

#: Commands: the entry point's name is the command's, its object a function that Typer can make a command of.
COMMANDS_GROUP = "onward.commands"
#: What `onward inspect` tries on a zip file, in order: functions of the path and of `--json` that print what they
#: find, or raise an OnwardError where the file is not of their kind.
INSPECTORS_GROUP = "onward.inspectors"


def load_extensions(group: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The name and the object of each entry point of a group; one that cannot be imported is reported and skipped."""
    for entry in _entry_points(tuple(sys.path)).select(group=group):
        try:
            found = entry.load()
        except Exception as error:  # another package can raise anything, and must not break every command
            remark(f"onward: {entry.name!r} ({entry.value}) is skipped, it cannot be imported: {error}")
        else:
            yield entry.name, found


@functools.cache
def _entry_points(paths: tuple[str, ...]) -> Any:
    """All that are installed below these paths, which are `sys.path`: finding them opens a file of every package."""
    return entry_points()
