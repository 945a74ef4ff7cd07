"""Pipeline: every input of a source through a model, one row each, in the order of the inputs.

Each thread takes a batch, and decodes, infers and formats it by itself. There is no queue between the stages in which
one could wait for another, and no core is idle as long as there are batches.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Condition, Lock
from time import perf_counter

from onward.errors import BadInput, DataError
from onward.prediction.batch import Batch, Batcher, predict_batch
from onward.prediction.done_batches import DoneBatch, compare_inputs
from onward.prediction.engine import Engine
from onward.prediction.journal import Commit, Position
from onward.prediction.options import PredictOptions
from onward.prediction.ordered import in_order
from onward.prediction.output import FileOutput, open_output
from onward.prediction.reusing_batcher import ReusingBatcher
from onward.prediction.shard import Shard
from onward.prediction.stream_output import StreamOutput, open_stream
from onward.prediction.summary import MAX_FAILURES_KEPT, Counts, Failure, Seconds, Summary
from onward.prediction.tuner import Plan
from onward.sinks import STDOUT, Sink, open_sink
from onward.sinks.text import json_line
from onward.sources import Source
from onward.tasks import Task, task_of

__all__ = ["predict"]

#: Results that may wait for an earlier one.
AHEAD = 2
#: Limits of the encoded images in memory: of a batch, and of all batches in work. A single image may be larger.
MAX_BATCH_BYTES = 32 << 20
MAX_HELD_BYTES = 96 << 20
#: Completed inputs that a resumed run skips at a time.
SKIPPED_AT_ONCE = 4096


def predict(
    engine: Engine,
    source: Source,
    out: Path,
    options: PredictOptions | None = None,
    *,
    on_progress: Callable[[int, Summary], None] = lambda count, summary: None,
    stop: Callable[[], bool] = lambda: False,
) -> Summary:
    """Predict every input of a source.

    Args:
        engine: Runs the model.
        source: The inputs.
        out: The file of rows; its suffix decides the format. `-` streams JSON Lines to standard output.
        options: What to write, and how to run.
        on_progress: Called after each batch with its number of inputs, and the summary so far.
        stop: Polled during the run; once it is true, the run commits what it has and ends.

    Returns:
        Counts, times, and the first inputs that could not be read.

    Raises:
        BadInput: An input could not be read, and `on_error` is `fail`.
        DataError: The inputs differ from those of the run that is resumed.
        OutputError: The output cannot be written.
        UsageError: The suffix of the output or an option cannot be used.
    """
    options, task = options or PredictOptions(), task_of(engine.signature)
    if isinstance(options.shard, Shard):
        source = options.shard.of(source)
    sink = open_sink(out, task.columns(options.columns), csv_safe=options.csv_safe)
    with _open(engine, source, out, sink, options) as output:
        run = _Run(engine, task, source, sink, options)
        run.write_to(output, on_progress, stop)
    run.summary.left_alone = dict(source.left_alone())
    return run.summary


def _open(
    engine: Engine, source: Source, out: Path, sink: Sink, options: PredictOptions
) -> AbstractContextManager[FileOutput | StreamOutput]:
    if out == STDOUT:
        return open_stream(sink)
    request = {"model": engine.artifact.file.sha256, **options.columns, **options.request}
    if options.csv_safe:  # a run that was begun before there was this option has no such key
        request["csv_safe"] = True
    if options.shard is not None:
        request["shard"] = str(options.shard)
    if options.labels_are:
        request["labels_are"] = options.labels_are
    return open_output(out, sink, request, options.resume, partial(_has_inputs_of, source))


def _has_inputs_of(source: Source, position: Position) -> bool:
    """Whether the inputs are those of a run that ended at a position, no more and no fewer."""
    if not source.is_repeatable:  # looking would leave nothing for the run
        return False
    batcher, num_inputs, digest = Batcher(source.blocks()), 0, ""
    while batch := batcher.take(SKIPPED_AT_ONCE):
        num_inputs, digest = num_inputs + len(batch), batch.digest
    return (num_inputs, digest) == (position.counts.num_inputs, position.digest)


@dataclass(frozen=True)
class _Task:
    """A batch for a thread, with its plan and the time that taking it took; or one that an earlier run has done."""

    batch: Batch
    plan: Plan
    seconds: Seconds
    before: DoneBatch | None = None


@dataclass(frozen=True)
class _Done:
    """A batch that is ready to be written."""

    batch: Batch
    rows: bytes
    errors: bytes
    failures: tuple[Failure, ...]
    counts: Counts
    plan: Plan
    seconds: Seconds
    is_reused: bool = False


class _Memory:
    """Encoded images that all threads together hold. Files are read one by one and do not count."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.held_bytes = max_bytes, 0
        self.changed = Condition()

    def take(self, num_bytes: int) -> None:
        """Wait until these bytes fit, or no others are held."""
        with self.changed:
            self.changed.wait_for(lambda: not self.held_bytes or self.held_bytes + num_bytes <= self.max_bytes)
            self.held_bytes += num_bytes

    def give(self, num_bytes: int) -> None:
        """They are no longer held."""
        with self.changed:
            self.held_bytes -= num_bytes
            self.changed.notify()


class _Run:
    """One run."""

    def __init__(self, engine: Engine, task: Task, source: Source, sink: Sink, options: PredictOptions) -> None:
        self.engine, self.task, self.source, self.sink, self.options = engine, task, source, sink, options
        self.batcher = Batcher(source.blocks())
        self.read_before: Callable[[DoneBatch], tuple[bytes, bytes]] | None = None
        self.summary = Summary(
            backend=engine.name,
            placement=engine.placement,
            artifact=engine.artifact.name,
            precision=engine.artifact.precision,
        )
        self.position = Position()
        self.memory = _Memory(MAX_HELD_BYTES)
        self.reading = Lock()

    def write_to(
        self, output: FileOutput | StreamOutput, on_progress: Callable[[int, Summary], None], stop: Callable[[], bool]
    ) -> None:
        """Process all inputs that the output does not have yet."""
        start = perf_counter()
        if output.committed is not None and output.is_finished:
            self._take_over(output.committed.position)
        elif isinstance(output, FileOutput) and output.committed is not None:
            self._resume_from(output, output.committed)
            on_progress(self.position.counts.num_inputs, self.summary)
        if output.is_finished:
            self.summary.was_finished = True
            return
        for done in in_order(self._take, self._work, num_workers=self.engine.num_workers, ahead=AHEAD, stop=stop):
            if done.failures and self.options.on_error == "fail":
                raise BadInput(f"{done.failures[0].input}: {done.failures[0].reason}")
            output.append(done.rows, done.errors, done.batch, done.counts)
            self._count(done, perf_counter() - start)
            output.commit_if_due(self.position, self.options.commit_every_s)
            on_progress(done.counts.num_inputs, self.summary)
        self.summary.is_interrupted = stop()
        if self.summary.is_interrupted:
            output.commit(self.position)
        else:
            output.finish(self.position)
        self._update_summary(perf_counter() - start)

    def _take(self) -> _Task | None:
        """The next batch; one thread at a time calls it."""
        start, seconds, plan = perf_counter(), Seconds(), self.engine.plan
        batch = self.batcher.take(plan.batch_size, MAX_BATCH_BYTES)
        if batch is not None:
            self.memory.take(batch.size_bytes)
        seconds.add("read", start)
        if batch is None:
            return None
        before = self.batcher.done_batch(batch) if isinstance(self.batcher, ReusingBatcher) else None
        return _Task(batch, plan, seconds, before)

    def _work(self, task: _Task) -> _Done:
        """From a batch to its bytes; several threads call it at the same time."""
        if task.before is not None:
            return self._reuse(task, task.before)
        run = partial(self.engine.run, plan=task.plan)
        try:
            result = predict_batch(run, self.engine.signature, task.batch, self.options, task=self.task)
        finally:
            self.memory.give(task.batch.size_bytes)
        start, seconds = perf_counter(), task.seconds
        rows = self.sink.encode(result.rows)
        errors = b"".join(json_line(asdict(failure)) for failure in result.failures)
        seconds += result.seconds
        seconds.add("write", start)
        return _Done(task.batch, rows, errors, result.failures, result.counts, task.plan, seconds)

    def _reuse(self, task: _Task, before: DoneBatch) -> _Done:
        """The bytes that an earlier run wrote."""
        assert self.read_before is not None
        with self.reading:
            rows, errors = self.read_before(before)
        self.memory.give(task.batch.size_bytes)
        failures = tuple(Failure(**json.loads(line)) for line in errors.splitlines())
        return _Done(task.batch, rows, errors, failures, before.counts, task.plan, task.seconds, is_reused=True)

    def _count(self, done: _Done, elapsed_s: float) -> None:
        self.position = Position(self.position.counts + done.counts, done.batch.digest, done.plan.to_json())
        self.summary.num_resumed += done.counts.num_inputs if done.is_reused else 0
        kept = MAX_FAILURES_KEPT - len(self.summary.failures)
        self.summary.failures += done.failures[:kept]
        self.summary.seconds += done.seconds
        self._update_summary(elapsed_s)

    def _update_summary(self, elapsed_s: float = 0.0) -> None:
        self.summary.counts, self.summary.plan = self.position.counts, self.position.plan
        self.summary.elapsed_s = elapsed_s
        self.summary.seconds.set_wait(elapsed_s * self.engine.num_workers)

    def _take_over(self, position: Position) -> None:
        """What an earlier run has done."""
        self.position, self.summary.num_resumed = position, position.counts.num_inputs
        self._update_summary()

    def _resume_from(self, output: FileOutput, commit: Commit) -> None:
        """Skip the completed inputs, and check that they are the same; if not, take over those that are."""
        self._take_over(commit.position)
        num_inputs = self.position.counts.num_inputs
        left, digest = num_inputs, ""
        while left and (batch := self.batcher.take(min(left, SKIPPED_AT_ONCE))):
            left, digest = left - len(batch), batch.digest
        if not left and digest == self.position.digest:
            return
        done = list(output.done_batches())
        is_known = self.source.is_repeatable and sum(batch.counts.num_inputs for batch in done) == num_inputs
        if self.options.resume != "changed" or not is_known:
            what = compare_inputs(done, self.source.blocks()).describe() if is_known else ""
            raise DataError(
                f"the first {num_inputs:,} inputs differ from those of the unfinished run: "
                f"{what or 'some of them were changed, added or removed since'}. "
                + ("--resume-changed computes those anew, --no-resume all." if is_known else "Use --no-resume.")
            )
        self.read_before = output.begin_anew()
        self.batcher = ReusingBatcher(self.source.blocks(), done)
        self.position, self.summary.num_resumed = Position(), 0
        self._update_summary()
