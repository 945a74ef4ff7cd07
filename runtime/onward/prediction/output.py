"""Output: rows, and what could not be read beside them; they appear under their names when they are whole.

Until then they grow in hidden files beside it. From time to time they are synced, and then a line of the journal
says how long they are: a run that is killed at any moment goes on from the last such line.

Stream output: rows go to standard output as they come; what cannot be read is said on standard error.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import Any

from onward.cli.console import remark
from onward.errors import OutputError, UsageError
from onward.files import cannot_write, sync
from onward.prediction.journal import Commit, Journal, Position, read_journal
from onward.sinks import Sink

__all__ = ["FileOutput", "StreamOutput", "errors_path", "open_output", "open_stream"]


try:
    import fcntl
except ImportError:  # Windows: two runs at one output are not noticed
    fcntl = None  # type: ignore[assignment]


NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def errors_path(out: Path) -> Path:
    """Where the inputs go that give no row."""
    return out.with_name(f"{out.name}.errors.jsonl")


@contextmanager
def open_output(out: Path, sink: Sink, request: Mapping[str, Any], resume: bool | None) -> Iterator[FileOutput]:
    """The output of a run, new or going on.

    On leaving without `finish`, what was committed is kept for a run that resumes; without a commit, nothing is.

    Args:
        out: Its name.
        sink: Its format.
        request: What the run is asked for.
        resume: Whether to go on with an unfinished run; None where there must be none.

    Raises:
        OutputError: The place cannot be written to, is full, or another run writes there.
        UsageError: An unfinished run stands there and `resume` is None, or it was asked for something else.
    """
    output = FileOutput(out, sink, request)
    try:
        output.open(resume)
        yield output
    except OSError as error:
        if error.errno in NO_SPACE and output.committed is not None:
            raise OutputError(
                f"{out} could not be written: no space is left on the disk. {output.committed.position.num_inputs:,} "
                f"inputs are safe: make room, then go on with --resume."
            ) from error
        raise cannot_write(out, error) from error
    finally:
        output.close()


class FileOutput:
    """Two files that grow, and the journal that says how far they may be trusted.

    Args:
        out: Where the rows are to appear.
        sink: Their format.
        request: What the run is asked for.
    """

    def __init__(self, out: Path, sink: Sink, request: Mapping[str, Any]) -> None:
        self.out, self.sink, self.request = out, sink, request
        self.rows_path = out.with_name(f".{out.name}.part")
        self.errors_path = out.with_name(f".{out.name}.errors.part")
        self.journal_path = out.with_name(f".{out.name}.journal")
        self.journal: Journal | None = None
        self.commits: list[Commit] = []
        self.streams: list[Any] = []
        self.rows_bytes = self.errors_bytes = 0
        self.is_finished = False

    @property
    def committed(self) -> Commit | None:
        """The last point to which a run can go back."""
        return self.commits[-1] if self.commits else None

    def open(self, resume: bool | None) -> None:
        """Begin, or go back to the last commit."""
        self.out.parent.mkdir(parents=True, exist_ok=True)
        found = read_journal(self.journal_path)
        if found and found[1] and resume is None:
            raise UsageError(
                f"an unfinished run stands at {self.out}, {found[1][-1].position.num_inputs:,} inputs into it: "
                f"--resume goes on with it, --no-resume begins anew."
            )
        if resume and found:
            self._check_request(found[0])
            if self._complete(found[1]):
                return
        self.rows, self.errors = self._open(self.rows_path), self._open(self.errors_path)
        if resume and found:
            self._go_back(found[1])
        else:
            with suppress(FileNotFoundError):
                self.journal_path.unlink()
        committed = self.committed
        self.rows_bytes, self.errors_bytes = (committed.rows_bytes, committed.errors_bytes) if committed else (0, 0)
        for stream, length in ((self.rows, self.rows_bytes), (self.errors, self.errors_bytes)):
            os.ftruncate(stream.fileno(), length)
            stream.seek(length)
        if not committed:
            self.append(self.sink.begin(), b"")
        self.last_commit_s = perf_counter()

    def append(self, rows: bytes, errors: bytes) -> None:
        """Add rows, and lines on inputs that gave none."""
        self.rows_bytes += _write(self.rows, rows)
        self.errors_bytes += _write(self.errors, errors)

    def commit_if_due(self, position: Position, every_s: float) -> None:
        """Commit, if the last one was that long ago."""
        if perf_counter() - self.last_commit_s >= every_s:
            self.commit(position)

    def commit(self, position: Position) -> None:
        """See that everything is on the disk, then say so in the journal."""
        os.fsync(self.rows.fileno())
        os.fsync(self.errors.fileno())
        self._note(Commit(position, self.rows_bytes, self.errors_bytes))
        self.last_commit_s = perf_counter()

    def finish(self, position: Position) -> None:
        """Make the rows whole and give both files their names."""
        os.fsync(self.errors.fileno())
        whole = self.sink.finish(self.rows_path, position.num_inputs)
        sync(whole)
        done = Commit(position, self.rows_bytes, self.errors_bytes, whole.name)
        if self.journal is not None:  # a short run has none, and begins anew if it is cut off here
            self._note(done)
        self._publish(done)

    def close(self) -> None:
        """Let go of the files; nothing is left of a run that has not committed anything."""
        if self.streams and not self.commits and not self.is_finished:
            for path in (self.rows_path, self.errors_path):  # while they are still locked
                with suppress(OSError):
                    path.unlink()
        self._close_streams()

    def _close_streams(self) -> None:
        if self.journal is not None:
            self.journal.close()
        for stream in self.streams:
            stream.close()

    def _open(self, path: Path) -> Any:
        """A file of one's own, whatever is in it."""
        while True:
            stream = path.open("r+b" if path.exists() else "w+b", buffering=0)
            if fcntl is not None:
                try:
                    fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError as error:
                    stream.close()
                    raise OutputError(
                        f"another run is writing {self.out}: wait for it, or choose another --out."
                    ) from error
                if not _is_at(stream, path):  # a run that has just ended took it away
                    stream.close()
                    continue
            self.streams.append(stream)
            return stream

    def _check_request(self, found: Mapping[str, Any]) -> None:
        wanted = dict(self.request)
        differing = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
        if differing:
            key = differing[0]
            raise UsageError(
                f"the unfinished run at {self.out} had another {key}: {found.get(key)!r}, now {wanted.get(key)!r}. Ask "
                f"for the same, or begin anew with --no-resume."
            )

    def _go_back(self, commits: list[Commit]) -> None:
        """To the last commit for which all is there."""
        lengths = [os.fstat(stream.fileno()).st_size for stream in (self.rows, self.errors)]
        while commits and (commits[-1].rows_bytes > lengths[0] or commits[-1].errors_bytes > lengths[1]):
            commits.pop()
        if commits:
            self.commits = commits
            self.journal = Journal(self.journal_path, self.request, is_new=False)

    def _complete(self, commits: list[Commit]) -> bool:
        """Whether the run was over but for the last steps; they are taken."""
        if not commits or commits[-1].whole is None:
            return False
        self.commits = commits
        self._publish(commits[-1])
        return True

    def _note(self, commit: Commit) -> None:
        if self.journal is None:
            self.journal = Journal(self.journal_path, self.request, is_new=True)
            sync(self.out.parent)
        self.journal.append(commit)
        self.commits.append(commit)

    def _publish(self, done: Commit) -> None:
        """Errors first: where the rows are, they are."""
        assert done.whole is not None
        if fcntl is None:
            self._close_streams()  # Windows renames no open file; elsewhere the lock is held to the end
        names = [(self.errors_path, errors_path(self.out)), (self.out.with_name(done.whole), self.out)]
        if not done.errors_bytes:
            for path in names.pop(0):
                path.unlink(missing_ok=True)
        for staged, path in names:
            if staged.exists():  # else it was named before a crash
                staged.replace(path)
        sync(self.out.parent)
        self.rows_path.unlink(missing_ok=True)
        self.journal_path.unlink(missing_ok=True)
        self.is_finished = True


def _write(stream: Any, data: bytes) -> int:
    left = memoryview(data)
    while left:
        left = left[stream.write(left) :]
    return len(data)


def _is_at(stream: Any, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(stream.fileno()), path.stat())
    except OSError:
        return False


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
