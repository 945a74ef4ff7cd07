"""Output: a file of rows, and the inputs without a row in another file beside it.

Both appear under their names when the run is complete. Until then they grow in hidden files; from time to time these
are synced, and then a line of the journal records their lengths. A run that is killed at any moment resumes from the
last such line.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from time import perf_counter
from typing import IO, Any, Literal

from onward.errors import OutputError, UsageError
from onward.files import cannot_write, check_writable, sync
from onward.locks import CAN_LOCK, open_locked
from onward.prediction.batch import Batch
from onward.prediction.done_batches import DoneBatch, done_line, read_done
from onward.prediction.journal import Commit, Journal, JournalContent, Position, new_digest, read_journal
from onward.prediction.summary import Counts
from onward.sinks import Sink

__all__ = ["FileOutput", "errors_path", "open_output"]

READ_BYTES = 1 << 20
NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def errors_path(out: Path) -> Path:
    """The file that lists the inputs without a row."""
    return out.with_name(f"{out.name}.errors.jsonl")


@contextmanager
def open_output(
    out: Path,
    sink: Sink,
    request: Mapping[str, Any],
    resume: bool | Literal["changed"] | None,
    is_same: Callable[[Position], bool] = lambda position: False,
) -> Iterator[FileOutput]:
    """The output of a new or a resumed run.

    Leaving without `finish` keeps what was committed, so that the run can be resumed. Without a commit nothing is kept.

    Args:
        out: Path of the rows.
        sink: Format of the rows.
        request: What the run is asked for.
        resume: Whether to resume an unfinished run. With None, an unfinished run is an error, and so is an output that
            exists. An output that the same run has finished stays as it is; False replaces everything.
        is_same: As for `FileOutput.open`.

    Raises:
        OutputError: The folder is not writable, the disk is full, or another run writes to this output.
        UsageError: There is an unfinished run and `resume` is None, or its request differs; or the output exists.
    """
    output = FileOutput(out, sink, request)
    try:
        output.open(resume, is_same)
        yield output
    except OSError as error:
        if error.errno in NO_SPACE and output.committed is not None:
            raise OutputError(
                f"{out} could not be written: no space is left on the disk. "
                f"{output.committed.position.counts.num_inputs:,} inputs are safe: make room, then go on with --resume."
            ) from error
        raise cannot_write(out, error) from error
    finally:
        output.close()


class FileOutput:
    """Three growing files: rows, errors and completed inputs; and the journal that records how much of them is on disk.

    Args:
        out: Path of the rows.
        sink: Format of the rows.
        request: What the run is asked for.
    """

    def __init__(self, out: Path, sink: Sink, request: Mapping[str, Any]) -> None:
        self.out, self.sink, self.request = out, sink, request
        self.rows_path = out.with_name(f".{out.name}.part")
        self.errors_path = out.with_name(f".{out.name}.errors.part")
        self.inputs_path = out.with_name(f".{out.name}.inputs.part")
        self.journal_path = out.with_name(f".{out.name}.journal")
        self.done_path = out.with_name(f".{out.name}.done")
        self.journal: Journal | None = None
        self.commits: list[Commit] = []
        self.streams: list[Any] = []
        self.rows_bytes = self.errors_bytes = self.inputs_bytes = 0
        self.rows_digest, self.errors_digest, self.inputs_digest = new_digest(), new_digest(), new_digest()
        self.is_finished = False

    @property
    def committed(self) -> Commit | None:
        """The last commit."""
        return self.commits[-1] if self.commits else None

    def open(
        self, resume: bool | Literal["changed"] | None, is_same: Callable[[Position], bool] = lambda position: False
    ) -> None:
        """Start, or go back to the last commit.

        Args:
            resume: As for `open_output`.
            is_same: Whether the inputs are those of a run that ended at this position; asked if a run has finished.
        """
        check_writable(self.out)
        found = read_journal(self.journal_path)
        if found and found.commits and resume is None:
            num_inputs = found.commits[-1].position.counts.num_inputs
            raise UsageError(
                f"an unfinished run at {self.out} has completed {num_inputs:,} inputs: "
                f"continue it with --resume, or start over with --no-resume."
            )
        if resume and found:
            self._check_request(found.request)
            if self._publish_finished(found.commits):
                return
        if resume is None and self.out.exists():
            raise UsageError(f"{self.out} exists: --overwrite replaces it, another --out keeps it.")
        if resume and (not found or not found.commits) and self._find_finished(is_same):
            return
        self.rows, self.errors = self._open(self.rows_path), self._open(self.errors_path)
        self.inputs = self._open(self.inputs_path)
        if resume and found:
            self._go_back(found)
        else:
            with suppress(FileNotFoundError):
                self.journal_path.unlink()
        committed = self.committed
        self.rows_bytes, self.errors_bytes = (committed.rows_bytes, committed.errors_bytes) if committed else (0, 0)
        lengths = ((self.rows, self.rows_bytes), (self.errors, self.errors_bytes), (self.inputs, self.inputs_bytes))
        for stream, length in lengths:
            os.ftruncate(stream.fileno(), length)
            stream.seek(length)
        self._begin_rows()
        self.last_commit_s = perf_counter()

    def append(self, rows: bytes, errors: bytes, batch: Batch | None = None, counts: Counts | None = None) -> None:
        """Add rows, and lines about the inputs without one; and which inputs those are."""
        starts = self.rows_bytes, self.errors_bytes
        self.rows_bytes += _write(self.rows, rows)
        self.errors_bytes += _write(self.errors, errors)
        self.rows_digest.update(rows)
        self.errors_digest.update(errors)
        if batch is not None and counts is not None:
            line = done_line(batch, (starts[0], self.rows_bytes), (starts[1], self.errors_bytes), counts)
            self.inputs_bytes += _write(self.inputs, line)
            self.inputs_digest.update(line)

    def done_batches(self) -> Iterator[DoneBatch]:
        """What the list of completed inputs has; a run that an earlier version began has no such list."""
        yield from read_done(self.inputs, self.inputs_bytes)

    def begin_anew(self) -> Callable[[DoneBatch], tuple[bytes, bytes]]:
        """Empty the output, to be written again with the rows of some done batches.

        Returns:
            A function that reads the rows and errors of a done batch from copies, which only this process has.
        """
        copies = [_copy(stream, self.out.parent) for stream in (self.rows, self.errors)]
        self.streams += copies
        if self.journal is not None:
            self.journal.close()
            self.journal_path.unlink()
        self.journal, self.commits = None, []
        self.rows_bytes = self.errors_bytes = self.inputs_bytes = 0
        self.rows_digest, self.errors_digest, self.inputs_digest = new_digest(), new_digest(), new_digest()
        for stream in (self.rows, self.errors, self.inputs):
            os.ftruncate(stream.fileno(), 0)
            stream.seek(0)
        self._begin_rows()
        return lambda done: (_read(copies[0], *done.rows), _read(copies[1], *done.errors))

    def commit_if_due(self, position: Position, every_s: float) -> None:
        """Commit if the last commit is at least `every_s` seconds old."""
        if perf_counter() - self.last_commit_s >= every_s:
            self.commit(position)

    def commit(self, position: Position) -> None:
        """Sync both files, then record their lengths in the journal."""
        os.fsync(self.rows.fileno())
        os.fsync(self.errors.fileno())
        os.fsync(self.inputs.fileno())
        self._record(self._commit(position))
        self.last_commit_s = perf_counter()

    def finish(self, position: Position) -> None:
        """Complete the rows, and give both files their names."""
        os.fsync(self.errors.fileno())
        whole = self.sink.finish(self.rows_path, position.counts.num_inputs)
        sync(whole)
        done = self._commit(position, whole.name)
        if self.journal is not None:  # a short run has no journal, and starts over after a crash here
            self._record(done)
        self._publish(done)

    def _commit(self, position: Position, whole: str | None = None) -> Commit:
        digests = self.rows_digest.hexdigest(), self.errors_digest.hexdigest()
        inputs = self.inputs_bytes, self.inputs_digest.hexdigest()
        whole_bytes = None if whole is None else self.out.with_name(whole).stat().st_size
        return Commit(position, self.rows_bytes, self.errors_bytes, *digests, *inputs, whole, whole_bytes)

    def _begin_rows(self) -> None:
        """Write the header of the rows; once more for a resumed run, because `Sink.finish` may have changed it."""
        header = self.sink.begin()
        self.rows.seek(0)
        _write(self.rows, header)
        self.rows_bytes = max(self.rows_bytes, len(header))
        self.rows.seek(self.rows_bytes)

    def close(self) -> None:
        """Close the files; a run that has not committed leaves nothing."""
        if self.streams and not self.commits and not self.is_finished:
            for path in (self.rows_path, self.errors_path, self.inputs_path):  # while they are still locked
                with suppress(OSError):
                    path.unlink()
        self._close_streams()

    def _close_streams(self) -> None:
        if self.journal is not None:
            self.journal.close()
        for stream in self.streams:
            stream.close()

    def _open(self, path: Path) -> Any:
        """Open and lock a file, with whatever it contains."""
        stream = open_locked(path, self.out)
        self.streams.append(stream)
        return stream

    def _check_request(self, found: Mapping[str, Any]) -> None:
        wanted = dict(self.request)
        differing = [key for key in {**found, **wanted} if found.get(key) != wanted.get(key)]
        if differing:
            key = differing[0]
            raise UsageError(
                f"the unfinished run at {self.out} has {key} {found.get(key)!r}, but {wanted.get(key)!r} is asked for: "
                f"repeat the first command with --resume, or start over with --no-resume."
            )

    def _go_back(self, found: JournalContent) -> None:
        """To the last commit whose rows and errors are all in the files, unchanged."""
        begun = len(self.sink.begin())
        rows = _matching(self.rows, begun, [(item.rows_bytes, item.rows_digest) for item in found.commits])
        errors = _matching(self.errors, 0, [(item.errors_bytes, item.errors_digest) for item in found.commits])
        count = min(len(rows), len(errors))
        if found.commits and not count:
            raise UsageError(
                f"the unfinished run at {self.out} cannot continue: its rows are not those that its journal records. "
                f"They were changed or lost since; start over with --no-resume."
            )
        if count:
            self.commits = found.commits[:count]
            self.rows_digest, self.errors_digest = rows[count - 1], errors[count - 1]
            self.journal = Journal(self.journal_path, self.request, found.ends[count])
            # without the list, changed inputs cannot be named or computed alone; all else works
            inputs = _matching(self.inputs, 0, [(item.inputs_bytes, item.inputs_digest) for item in self.commits])
            if len(inputs) == count:
                self.inputs_bytes, self.inputs_digest = self.commits[-1].inputs_bytes, inputs[-1]

    def _publish_finished(self, commits: list[Commit]) -> bool:
        """Publish the files of a run that ended between its last commit and its last renaming."""
        if not commits or (whole := commits[-1].whole) is None:
            return False
        if not whole.startswith(f".{self.out.name}.") or Path(whole).name != whole:
            raise UsageError(
                f"the journal of {self.out} names {whole!r} as its rows, which is not a file of this run: start over "
                f"with --no-resume."
            )
        self.commits = commits
        self._publish(commits[-1])
        return True

    def _find_finished(self, is_same: Callable[[Position], bool]) -> bool:
        """Whether this very run has finished the output before, and the output is still there."""
        done = read_journal(self.done_path)
        if done is None or not done.commits or done.request != dict(self.request) or not self.out.exists():
            return False
        last = done.commits[-1]
        if self.out.stat().st_size != last.whole_bytes or not is_same(last.position):
            return False
        self.commits, self.is_finished = done.commits, True
        return True

    def _record(self, commit: Commit) -> None:
        if self.journal is None:
            self.journal = Journal(self.journal_path, self.request, None)
            sync(self.out.parent)
        self.journal.append(commit)
        self.commits.append(commit)

    def _publish(self, done: Commit) -> None:
        """Rename errors before rows: rows never appear without the errors that belong to them."""
        assert done.whole is not None
        if not CAN_LOCK:
            self._close_streams()  # Windows cannot rename an open file; elsewhere the lock is held to the end
        self.done_path.unlink(missing_ok=True)  # that of an earlier output
        names = [(self.errors_path, errors_path(self.out)), (self.out.with_name(done.whole), self.out)]
        if not done.errors_bytes:
            for path in names.pop(0):
                path.unlink(missing_ok=True)
        for staged, path in names:
            if staged.exists():  # else it was renamed before a crash
                staged.replace(path)
        sync(self.out.parent)
        self._write_done(done)
        self.rows_path.unlink(missing_ok=True)
        self.inputs_path.unlink(missing_ok=True)
        self.journal_path.unlink(missing_ok=True)
        self.is_finished = True

    def _write_done(self, done: Commit) -> None:
        """Record what the output was made from, so that a repeated command with --resume finds it finished."""
        staged = self.done_path.with_name(f"{self.done_path.name}.part")
        journal = Journal(staged, self.request, None)
        journal.append(done)
        journal.close()
        staged.replace(self.done_path)


def _matching(stream: Any, start: int, commits: list[tuple[int, str]]) -> list[Any]:
    """The digest at each commit, up to the first that does not fit the content of the file."""
    digest, found, at = new_digest(), list[Any](), start
    stream.seek(start)
    for length, expected in commits:
        while at < length and (piece := stream.read(min(length - at, READ_BYTES))):
            digest.update(piece)
            at += len(piece)
        if at != max(length, start) or digest.hexdigest() != expected:
            break
        found.append(digest.copy())
    return found


def _copy(stream: Any, folder: Path) -> IO[bytes]:
    """A copy of a file without a name; it is gone with this process."""
    copy = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (`FileOutput.close` closes it)
    stream.seek(0)
    shutil.copyfileobj(stream, copy, READ_BYTES)
    return copy


def _read(stream: IO[bytes], start: int, end: int) -> bytes:
    stream.seek(start)
    return stream.read(end - start)


def _write(stream: Any, data: bytes) -> int:
    left = memoryview(data)
    while left:
        left = left[stream.write(left) :]
    return len(data)
