"""Journal: how much of an unfinished run is safely on the disk. JSON, one line per commit, synced after the data.

Each line ends in a check: the digest of itself and of all lines before it. A line that was changed or cut short ends
the journal. A commit also holds the digests of the staged rows and errors, so that a run does not continue behind rows
that are not its own.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from onward.document import Document, parse
from onward.errors import OutputError
from onward.prediction.summary import Counts

__all__ = ["Commit", "Journal", "JournalContent", "LineEnd", "Position", "new_digest", "read_journal"]

#: Lines of format 1 had no check.
FORMAT = 2
CHECK = b', "check": "'
END = b'"}'


def new_digest() -> hashlib.blake2b:
    """Of staged rows, and of lines."""
    return hashlib.blake2b(digest_size=16)


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
        rows_digest: Of the staged rows behind their header, see `Sink.begin`.
        errors_digest: Of the staged errors.
        inputs_bytes: Length of the list of completed inputs.
        inputs_digest: Of that list.
        whole: Name of the finished file of rows; None before the end.
        whole_bytes: Its length; None before the end.
    """

    position: Position
    rows_bytes: int
    errors_bytes: int
    rows_digest: str
    errors_digest: str
    inputs_bytes: int = 0
    inputs_digest: str = ""
    whole: str | None = None
    whole_bytes: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain data; `Document.read(Commit)` reads it."""
        return {**vars(self), "position": self.position.to_json()}


class LineEnd(NamedTuple):
    """Where a line ends in the journal, and its check."""

    end: int
    check: str


class JournalContent(NamedTuple):
    """What is in a journal.

    Args:
        request: What the run was asked for.
        commits: In their order.
        ends: Of the first line, and of each commit.
    """

    request: dict[str, Any]
    commits: list[Commit]
    ends: list[LineEnd]


class Journal:
    """Writes commits. Each is on the disk before `append` returns.

    Args:
        path: A new file, or the journal of the run that is resumed.
        request: What the run was asked for.
        place: The last line to keep of the run that is resumed; None for a new file.
    """

    def __init__(self, path: Path, request: Mapping[str, Any], place: LineEnd | None) -> None:
        self.path = path
        self.check = "" if place is None else place.check
        self.stream = path.open("wb" if place is None else "r+b", buffering=0)
        if place is None:
            self._write({"format": FORMAT, "request": dict(request)})
        else:
            self.stream.truncate(place.end)  # what follows was changed or cut short
            self.stream.seek(place.end)

    def append(self, commit: Commit) -> None:
        """Write and sync one commit."""
        self._write(commit.to_json())

    def close(self) -> None:
        """Close the file."""
        self.stream.close()

    def _write(self, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode().removesuffix(b"}")
        self.check = _check(self.check, body)
        line = body + CHECK + self.check.encode() + END + b"\n"
        if self.stream.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fspath(self.path))
        os.fsync(self.stream.fileno())


def read_journal(path: Path) -> JournalContent | None:
    """What a run was asked for, and its commits; None if there is no journal, or its first line is damaged.

    A line that was changed or cut short ends the list; the commits before it count.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except OSError:
        return None
    documents: list[Document] = []
    ends: list[LineEnd] = []
    for line in lines:
        body, _, stated = line.rpartition(CHECK)
        check = _check(ends[-1].check if ends else "", body)
        if stated != check.encode() + END:
            break
        ends.append(LineEnd((ends[-1].end if ends else 0) + len(line) + 1, check))
        documents.append(parse(line, str(path), OutputError))
    if not documents or documents[0]["format"].read(int) != FORMAT:
        return None
    commits = [document.read(Commit) for document in documents[1:]]
    return JournalContent(documents[0]["request"].read(dict[str, Any]), commits, ends)


def _check(before: str, body: bytes) -> str:
    digest = new_digest()
    digest.update(before.encode() + body)
    return digest.hexdigest()
