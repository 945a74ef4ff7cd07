"""Batches: consecutive inputs of a source, as many at a time as the model is to run.

Preparation: a batch of inputs becomes the pixels that the model takes, and a list of those that cannot be read.

A run: every input of a source through a model, one row each, in the order of the inputs.

Each thread takes a batch, decodes, infers and formats it by itself: there is no queue between the stages in which
one could wait for another, and no core without work as long as there are batches.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from onward.errors import BadInput, DataError, ImageError
from onward.feed import from_pixels
from onward.images.decode import decode, resize
from onward.prediction.engine import Engine
from onward.prediction.journal import Commit, Position
from onward.prediction.options import PredictOptions
from onward.prediction.ordered import in_order
from onward.prediction.output import FileOutput, StreamOutput, open_output, open_stream
from onward.prediction.summary import MAX_FAILURES_KEPT, Failure, Seconds, Summary
from onward.prediction.tuner import Plan
from onward.signature import Signature
from onward.sinks import STDOUT, Rows, Sink, open_sink
from onward.sinks.text import json_line
from onward.sources import Source
from onward.sources.source import Block, Item, Pixels
from onward.tasks import task_of
from onward.tasks.task import NO_TARGET

__all__ = ["Batch", "Batches", "Prepared", "predict", "prepare"]


@dataclass(frozen=True)
class Batch:
    """Some consecutive inputs.

    Args:
        blocks: That they lie in.
        digest: Of the names and stamps of all inputs up to the last of these.
    """

    blocks: tuple[Block, ...]
    digest: str

    def __len__(self) -> int:
        return sum(map(len, self.blocks))


class Batches:
    """Cuts blocks into batches of any size.

    Args:
        blocks: All inputs, in order.
    """

    def __init__(self, blocks: Iterator[Block]) -> None:
        self.blocks = blocks
        self.rest: Block | None = None
        self.digest = hashlib.blake2b(digest_size=16)

    def take(self, count: int) -> Batch | None:
        """The next inputs, `count` of them unless fewer are left; None where none is."""
        taken: list[Block] = []
        while count and (block := self._next()):
            taken.append(block[:count])
            self.rest = block[count:]
            count -= len(taken[-1])
            self.digest.update(taken[-1].stamps)
        return Batch(tuple(taken), self.digest.hexdigest()) if taken else None

    def _next(self) -> Block | None:
        while not self.rest:
            self.rest = next(self.blocks, None)
            if self.rest is None:
                return None
        return self.rest


@dataclass(frozen=True)
class Prepared:
    """What a batch has come to before inference.

    Args:
        names: Of the inputs that could be read.
        images: uint8 `(names, height, width, channels)`.
        labels: Of each, None where nobody gave one.
        places: Where each stands in the batch; None where all could be read.
        failures: The others.
        num_inputs: All of them.
    """

    names: Sequence[str]
    images: NDArray[np.uint8]
    labels: Sequence[str | None] | None
    places: NDArray[np.intp] | None
    failures: tuple[Failure, ...]
    num_inputs: int


def prepare(batch: Batch, signature: Signature, seconds: Seconds) -> Prepared:
    """Read, decode and resize.

    Args:
        batch: Some inputs.
        signature: What an image has to become.
        seconds: What each of the steps takes is added to.
    """
    parts = [_prepare(block, signature, seconds) for block in batch.blocks]
    return parts[0] if len(parts) == 1 else _join(parts)


def _prepare(block: Block, signature: Signature, seconds: Seconds) -> Prepared:
    if isinstance(block, Pixels):
        return Prepared(block.names, block.images, block.labels, None, (), len(block))
    images = np.empty((len(block), *signature.image_shape), np.uint8)
    kept: list[int] = []
    failures: list[Failure] = []
    for place, item in enumerate(block.items):
        failure = _read(item, images[len(kept)], signature, seconds)
        if failure is None:
            kept.append(place)
        else:
            failures.append(failure)
    inputs = [block.items[place] for place in kept]
    return Prepared(
        names=[item.name for item in inputs],
        images=images[: len(kept)],
        labels=[item.label for item in inputs] if any(item.label for item in inputs) else None,
        places=np.array(kept, np.intp) if failures else None,
        failures=tuple(failures),
        num_inputs=len(block),
    )


def _read(item: Item, target: NDArray[np.uint8], signature: Signature, seconds: Seconds) -> Failure | None:
    """Put the pixels of an input where they belong, or say why there are none."""
    stage, start = "read", perf_counter()
    try:
        data = item.read()
        stage, start = "decode", seconds.add("read", start)
        image = decode(data, signature)
        stage, start = "resize", seconds.add("decode", start)
        target[...] = resize(image, signature)
    except ImageError as error:
        return Failure(item.name, stage, str(error))
    finally:
        seconds.add(stage, start)
    return None


def _join(parts: Sequence[Prepared]) -> Prepared:
    starts = np.cumsum([0, *(part.num_inputs for part in parts)])
    failures = tuple(failure for part in parts for failure in part.failures)
    places = [
        start + (np.arange(part.num_inputs) if part.places is None else part.places)
        for start, part in zip(starts.tolist(), parts, strict=False)
    ]
    labels = [part.labels or [None] * len(part.names) for part in parts]
    return Prepared(
        names=[name for part in parts for name in part.names],
        images=np.concatenate([part.images for part in parts]),
        labels=[label for some in labels for label in some] if any(part.labels for part in parts) else None,
        places=np.concatenate(places) if failures else None,
        failures=failures,
        num_inputs=int(starts[-1]),
    )


#: Results that may wait for an earlier one.
AHEAD = 2
#: Inputs of an earlier part of the run that are looked at together.
PASSED_AT_ONCE = 4096


def predict(
    engine: Engine,
    source: Source,
    out: Path,
    options: PredictOptions | None = None,
    *,
    on_progress: Callable[[int, Summary], None] = lambda count, summary: None,
    stop: Callable[[], bool] = lambda: False,
) -> Summary:
    """Classify every input of a source.

    Args:
        engine: What runs the model.
        source: Where inputs come from.
        out: The file of rows, by whose name they are written; `-` streams JSON Lines to standard output.
        options: What is written, and how the run goes.
        on_progress: Called with the number of inputs that each batch dealt with, and the summary so far.
        stop: Looked at all the time; once it is true, the run commits what it has and ends.

    Returns:
        The counts, the time, and the first inputs that could not be read.

    Raises:
        BadInput: An input could not be read, and `on_error` is `fail`.
        DataError: The inputs are not those of the run that goes on.
        OutputError: The output cannot be written.
        UsageError: The output's name or an option cannot be used.
    """
    options = options or PredictOptions()
    sink = open_sink(out, task_of(engine.signature).columns(options.columns))
    with _open(engine, out, sink, options) as output:
        run = _Run(engine, Batches(source.blocks()), sink, options)
        run.go(output, on_progress, stop)
    return run.summary


def _open(
    engine: Engine, out: Path, sink: Sink, options: PredictOptions
) -> AbstractContextManager[FileOutput | StreamOutput]:
    if out == STDOUT:
        return open_stream(sink)
    request = {"model": engine.sha256, **options.columns, **options.request}
    return open_output(out, sink, request, options.resume)


@dataclass(frozen=True)
class _Task:
    batch: Batch
    plan: Plan
    seconds: Seconds
    taken_s: float


@dataclass(frozen=True)
class _Done:
    """A batch that is ready to be written."""

    rows: bytes
    errors: bytes
    failures: tuple[Failure, ...]
    num_inputs: int
    num_labelled: int
    num_correct: int
    digest: str
    plan: Plan
    seconds: Seconds


class _Run:
    """One run: what its threads do."""

    def __init__(self, engine: Engine, batches: Batches, sink: Sink, options: PredictOptions) -> None:
        self.engine, self.batches, self.sink, self.options = engine, batches, sink, options
        self.task = task_of(engine.signature)
        self.summary = Summary(backend=engine.name, placement=engine.placement)
        self.position = Position()

    def go(
        self, output: FileOutput | StreamOutput, on_progress: Callable[[int, Summary], None], stop: Callable[[], bool]
    ) -> None:
        """Everything, from where the output is."""
        start = perf_counter()
        if output.committed is not None:
            self._go_on_from(output.committed)
            on_progress(self.position.num_inputs, self.summary)
        if output.is_finished:
            return
        for done in in_order(self._take, self._work, num_workers=self.engine.num_workers, ahead=AHEAD, stop=stop):
            if done.failures and self.options.on_error == "fail":
                raise BadInput(f"{done.failures[0].input}: {done.failures[0].reason}")
            output.append(done.rows, done.errors)
            self._count(done, perf_counter() - start)
            output.commit_if_due(self.position, self.options.commit_every_s)
            on_progress(done.num_inputs, self.summary)
        self.summary.is_interrupted = stop()
        if self.summary.is_interrupted:
            output.commit(self.position)
        else:
            output.finish(self.position)
        self._tell(perf_counter() - start)

    def _take(self) -> _Task | None:
        """The next batch; called by one thread at a time."""
        start, seconds = perf_counter(), Seconds()
        plan = self.engine.plan
        batch = self.batches.take(plan.batch_size)
        return None if batch is None else _Task(batch, plan, seconds, seconds.add("read", start))

    def _work(self, task: _Task) -> _Done:
        """From a batch to its bytes; called by several threads at once."""
        seconds, plan = task.seconds, task.plan
        prepared = prepare(task.batch, self.engine.signature, seconds)
        outputs = self._infer(prepared, plan, seconds)
        start = perf_counter()
        values = self.task.values(outputs, self.options.columns)
        rows = Rows(prepared.names, values, prepared.places, prepared.num_inputs)
        encoded = self.sink.encode(rows)
        errors = b"".join(
            json_line({"input": item.input, "stage": item.stage, "reason": item.reason}) for item in prepared.failures
        )
        num_labelled, num_correct = self._compare(prepared, outputs)
        seconds.add("write", start)
        return _Done(
            encoded,
            errors,
            prepared.failures,
            prepared.num_inputs,
            num_labelled,
            num_correct,
            task.batch.digest,
            plan,
            seconds,
        )

    def _infer(self, prepared: Prepared, plan: Plan, seconds: Seconds) -> dict[str, np.ndarray]:
        if not len(prepared.names):
            return self.task.no_outputs()
        start = perf_counter()
        outputs = self.engine.run(from_pixels(prepared.images, self.engine.signature), plan)
        seconds.add("infer", start)
        return outputs

    def _compare(self, prepared: Prepared, outputs: dict[str, np.ndarray]) -> tuple[int, int]:
        """How many inputs come with a label of the model's, and how many rows are right."""
        if prepared.labels is None:
            return 0, 0
        targets = self.task.targets(prepared.labels)
        return int((targets != NO_TARGET).sum()), self.task.count_correct(outputs, targets)

    def _count(self, done: _Done, elapsed_s: float) -> None:
        self.position = self.position.after(
            num_inputs=done.num_inputs,
            num_predicted=done.num_inputs - len(done.failures),
            num_labelled=done.num_labelled,
            num_correct=done.num_correct,
            digest=done.digest,
            plan=done.plan.to_json(),
        )
        kept = MAX_FAILURES_KEPT - len(self.summary.failures)
        self.summary.failures += done.failures[:kept]
        self.summary.seconds += done.seconds
        self._tell(elapsed_s)

    def _tell(self, elapsed_s: float = 0.0) -> None:
        summary, position = self.summary, self.position
        summary.num_inputs, summary.num_predicted = position.num_inputs, position.num_predicted
        summary.num_failures, summary.plan = position.num_failures, position.plan
        summary.num_labelled, summary.num_correct = position.num_labelled, position.num_correct
        summary.elapsed_s = elapsed_s
        summary.seconds.wait_for(elapsed_s * self.engine.num_workers)

    def _go_on_from(self, commit: Commit) -> None:
        """Pass by the inputs that are dealt with, if they are the same ones."""
        self.position = commit.position
        self.summary.num_resumed = self.position.num_inputs
        self._tell()
        left, digest = self.position.num_inputs, ""
        while left and (batch := self.batches.take(min(left, PASSED_AT_ONCE))):
            left, digest = left - len(batch), batch.digest
        if left or digest != self.position.digest:
            raise DataError(
                f"the first {self.position.num_inputs:,} inputs are not those of the unfinished run: some of them were "
                f"changed, added or taken away since. --no-resume begins anew."
            )
