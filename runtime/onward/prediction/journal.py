"""Journal: how much of an unfinished run is safely on the disk. JSON, one line per commit, synced after the data."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from onward.document import Document, parse
from onward.errors import OutputError
from onward.prediction.summary import Counts

__all__ = ["Commit", "Journal", "Position", "read_journal"]

FORMAT = 1


@dataclass(frozen=True)
class Position:
    """How far a run is: everything that a resumed run needs.

    Args:
        counts: Of the completed inputs, which are the first ones.
        digest: Of the names and stamps of the completed inputs.
        plan: The plan of the last of them.
    """

    counts: Counts = field(default_factory=Counts)
    digest: str = ""
    plan: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As plain data; `Document.read(Position)` reads it."""
        return {**asdict(self.counts), "digest": self.digest, "plan": dict(self.plan)}

    @classmethod
    def from_json(cls, document: Document) -> Position:
        """Read what `to_json` gave."""
        return cls(document.read(Counts), document["digest"].read(str), document["plan"].read(Mapping[str, int]))


@dataclass(frozen=True)
class Commit:
    """A point of a run up to which everything is on the disk.

    Args:
        position: How far the run was.
        rows_bytes: Length of the staged rows.
        errors_bytes: Length of the staged errors.
        whole: Name of the finished file of rows; None before the end.
    """

    position: Position
    rows_bytes: int
    errors_bytes: int
    whole: str | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain data; `Document.read(Commit)` reads it."""
        return {
            "position": self.position.to_json(),
            "rows_bytes": self.rows_bytes,
            "errors_bytes": self.errors_bytes,
            "whole": self.whole,
        }


class Journal:
    """Writes commits. Each is on the disk before `append` returns.

    Args:
        path: A new file, or the journal of the run that is resumed.
        request: What the run was asked for.
        is_new: Whether to begin a new file.
    """

    def __init__(self, path: Path, request: Mapping[str, Any], *, is_new: bool) -> None:
        self.path = path
        self.stream = path.open("wb" if is_new else "ab", buffering=0)
        if is_new:
            self._write({"format": FORMAT, "request": dict(request)})

    def append(self, commit: Commit) -> None:
        """Write and sync one commit."""
        self._write(commit.to_json())

    def close(self) -> None:
        """Close the file."""
        self.stream.close()

    def _write(self, document: dict[str, Any]) -> None:
        line = (json.dumps(document) + "\n").encode()
        if self.stream.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(self.path))
        os.fsync(self.stream.fileno())


def read_journal(path: Path) -> tuple[dict[str, Any], list[Commit]] | None:
    """What a run was asked for, and its commits; None if there is no journal, or its first line is damaged.

    A line that a crash cut short ends the list; the commits before it count.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
        head = parse(lines[0] if lines else b"", str(path), OutputError)
        if head["format"].read(int) != FORMAT:
            return None
        request = head["request"].read(dict[str, Any])
    except (OSError, OutputError):
        return None
    commits: list[Commit] = []
    for line in lines[1:]:
        try:
            commits.append(parse(line, str(path), OutputError).read(Commit))
        except OutputError:
            break
    return request, commits
