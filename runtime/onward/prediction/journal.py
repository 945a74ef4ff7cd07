"""Position: how far a run has come.

Journal: what of an unfinished run is safely on the disk. JSON, one line a commit, synced after the data.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

__all__ = ["Commit", "Journal", "Position", "read_journal"]


@dataclass(frozen=True)
class Position:
    """How far a run has come: all that it needs to go on from there.

    Args:
        num_inputs: Dealt with, from the first.
        num_predicted: Rows.
        num_labelled: Rows whose input came with a label of the model's.
        num_correct: Of these, rows of that label.
        digest: Of the names and stamps of the inputs dealt with.
        plan: That the last of them were run by.
    """

    num_inputs: int = 0
    num_predicted: int = 0
    num_labelled: int = 0
    num_correct: int = 0
    digest: str = ""
    plan: Mapping[str, int] = field(default_factory=dict)

    @property
    def num_failures(self) -> int:
        """Inputs that gave no row."""
        return self.num_inputs - self.num_predicted

    def after(
        self,
        *,
        num_inputs: int,
        num_predicted: int,
        num_labelled: int,
        num_correct: int,
        digest: str,
        plan: Mapping[str, int],
    ) -> Position:
        """With one more batch dealt with."""
        return replace(
            self,
            num_inputs=self.num_inputs + num_inputs,
            num_predicted=self.num_predicted + num_predicted,
            num_labelled=self.num_labelled + num_labelled,
            num_correct=self.num_correct + num_correct,
            digest=digest,
            plan=plan,
        )

    def to_json(self) -> dict[str, Any]:
        """As plain data; `Position(**position.to_json()) == position`."""
        return asdict(self)


FORMAT = 1


@dataclass(frozen=True)
class Commit:
    """A point at which everything up to it was on the disk.

    Args:
        position: How far the run had come.
        rows_bytes: The length of the staged rows.
        errors_bytes: The length of the staged errors.
        whole: The name of the file of rows once it was finished; None before.
    """

    position: Position
    rows_bytes: int
    errors_bytes: int
    whole: str | None = None


class Journal:
    """Writes commits, each on the disk before `append` returns.

    Args:
        path: A new file, or that of the run which goes on.
        request: What the run was asked for.
        is_new: Whether to begin it.
    """

    def __init__(self, path: Path, request: Mapping[str, Any], *, is_new: bool) -> None:
        self.path = path
        self.stream = path.open("wb" if is_new else "ab", buffering=0)
        if is_new:
            self._write({"format": FORMAT, "request": dict(request)})

    def append(self, commit: Commit) -> None:
        """Write and sync one commit."""
        self._write(asdict(commit))

    def close(self) -> None:
        """Let go of the file."""
        self.stream.close()

    def _write(self, document: dict[str, Any]) -> None:
        line = (json.dumps(document) + "\n").encode()
        if self.stream.write(line) != len(line):
            raise OSError(28, "No space left on device", os.fspath(self.path))
        os.fsync(self.stream.fileno())


def read_journal(path: Path) -> tuple[dict[str, Any], list[Commit]] | None:
    """What a run was asked for, and its commits; None where there is no journal that says so.

    A line that a crash has cut short ends it.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
        head = json.loads(lines[0])
        if head["format"] != FORMAT:
            return None
        request = dict(head["request"])
    except (OSError, ValueError, LookupError, TypeError):
        return None
    commits: list[Commit] = []
    for line in lines[1:]:
        try:
            document = json.loads(line)
            commits.append(Commit(**(document | {"position": Position(**document["position"])})))
        except (ValueError, LookupError, TypeError):
            break
    return request, commits
