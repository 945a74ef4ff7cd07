"""Sink: turns rows into bytes that are appended to a file, which is made whole at the end.

A file that is only ever appended to can be cut back to any point at which all of it was on the disk: that is what
lets a run go on after a crash, whatever the format.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from onward.sinks.rows import Rows

__all__ = ["Sink"]


class Sink(Protocol):
    """One format of output."""

    def begin(self) -> bytes:
        """What stands before the first row."""

    def encode(self, rows: Rows) -> bytes:
        """The bytes of some rows; of two parts they are those of the one and then of the other."""

    def finish(self, staged: Path, num_inputs: int) -> Path:
        """Make a file whole to which everything was appended.

        It may be called again after a crash, on a file that it was called on before.

        Args:
            staged: The file.
            num_inputs: How many inputs there were.

        Returns:
            The whole file: this one, or another one beside it.
        """
