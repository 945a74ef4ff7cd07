"""Stream output: rows go out to standard output as they come; inputs without a row are reported on standard error."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from onward.cli.console import remark
from onward.prediction.batch import Batch
from onward.prediction.journal import Commit, Position
from onward.prediction.summary import Counts
from onward.sinks import Sink

__all__ = ["StreamOutput", "open_stream"]


@contextmanager
def open_stream(sink: Sink) -> Iterator[StreamOutput]:
    """Standard output. A reader that closes it, such as `head`, ends the run."""
    output = StreamOutput(sink)
    try:
        yield output
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        # the rest of the buffer could not be written at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class StreamOutput:
    """The interface of `FileOutput`; nothing can be resumed."""

    committed: Commit | None = None
    is_finished = False

    def __init__(self, sink: Sink) -> None:
        self.append(sink.begin(), b"")

    def append(self, rows: bytes, errors: bytes, batch: Batch | None = None, counts: Counts | None = None) -> None:
        """Write rows, and report the inputs without one."""
        sys.stdout.buffer.write(rows)
        sys.stdout.buffer.flush()
        for line in errors.splitlines():
            failure = json.loads(line)
            remark(f"{failure['input']}: {failure['reason']}")

    def commit_if_due(self, position: Position, every_s: float) -> None:
        """Do nothing."""

    def commit(self, position: Position) -> None:
        """Do nothing."""

    def finish(self, position: Position) -> None:
        """Do nothing."""
