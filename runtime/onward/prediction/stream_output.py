"""Stream output: rows go to standard output as they come; what cannot be read is said on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from onward.cli.console import remark
from onward.prediction.journal import Commit
from onward.prediction.position import Position
from onward.sinks import Sink

__all__ = ["StreamOutput", "open_stream"]


@contextmanager
def open_stream(sink: Sink) -> Iterator[StreamOutput]:
    """Standard output; a reader who has seen enough, such as `head`, ends the run."""
    output = StreamOutput(sink)
    try:
        yield output
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # what is left in the buffer cannot be written at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class StreamOutput:
    """As a `FileOutput`, but that nothing of it can be gone back to."""

    committed: Commit | None = None
    is_finished = False

    def __init__(self, sink: Sink) -> None:
        self.append(sink.begin(), b"")

    def append(self, rows: bytes, errors: bytes) -> None:
        """Write rows, and say what gave none."""
        sys.stdout.buffer.write(rows)
        sys.stdout.buffer.flush()
        for line in errors.splitlines():
            failure = json.loads(line)
            remark(f"{failure['input']}: {failure['reason']}")

    def commit_if_due(self, position: Position, every_s: float) -> None:
        """Nothing can be gone back to."""

    def commit(self, position: Position) -> None:
        """Nothing can be gone back to."""

    def finish(self, position: Position) -> None:
        """Nothing is missing."""
