"""Bench: how fast models are here, by everything that can run them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from onward.benchmarking.end_to_end import can_run, time_end_to_end
from onward.benchmarking.inputs import Supply, draw_arrays, lay_down
from onward.benchmarking.matrix import Lineup, Wish
from onward.benchmarking.model import Subject
from onward.benchmarking.report import Report
from onward.benchmarking.runner import run
from onward.benchmarking.spec import Options
from onward.benchmarking.summary import choose_reference, rows_of
from onward.errors import BundleError, UsageError
from onward.host.fingerprint import take_fingerprint

__all__ = ["Question", "bench", "count_steps"]


@dataclass(frozen=True)
class Question:
    """What is to be timed.

    Args:
        targets: Bundles and ONNX files; of two or more, each by all backends, beside one another.
        wish: Backends, providers and threads.
        reference: A backend, a target, or `TARGET:BACKEND`; by default PyTorch, or the first of all.
        input: Samples to time with; by default they are drawn.
        sizes: Name of a dynamic axis -> its size, of files that are not ours.
        with_files: Whether to time `predict` on image files, too.
    """

    targets: Sequence[str]
    wish: Wish = field(default_factory=Wish)
    reference: str | None = None
    input: str | None = None
    sizes: Mapping[str, int] = field(default_factory=dict)
    with_files: bool = True


def bench(
    question: Question,
    options: Options | None = None,
    *,
    on_lineup: Callable[[Lineup, int], None] = lambda lineup, steps: None,
    on_step: Callable[[str], None] = lambda what: None,
    stop: Callable[[], bool] = lambda: False,
) -> Report:
    """Time models beside one another, each competitor in a process of its own.

    Args:
        question: What.
        options: How.
        on_lineup: Called before the first process starts, with who is timed and how many steps there will be.
        on_step: Called after each step, with what it was.
        stop: Whether to end early; the report then has what there is.

    Raises:
        BundleError: A target is neither a bundle nor an ONNX file.
        DataError, FeedError: The input cannot be read, or does not fit.
        ProviderError: A provider's name is unknown.
        UsageError: Nothing would be timed, or an option cannot be meant.
    """
    options = options or Options()
    subjects = _open(question)
    lineup = Lineup.draw_up(subjects, question.wish)
    reference = choose_reference(lineup.competitors, question.reference)
    before = take_fingerprint()
    with tempfile.TemporaryDirectory() as folder:
        supply = lay_down(question.input, subjects, Path(folder)) if question.input else Supply()
        on_lineup(lineup, count_steps(question, subjects, lineup, options))
        course = run(subjects, lineup.competitors, options, supply=supply, on_step=on_step, stop=stop)
    files = (
        time_end_to_end(
            subjects, [log.competitor for log in course.logs if log.goes_on], options, on_step=on_step, stop=stop
        )
        if question.with_files and not stop()
        else []
    )
    return Report(
        rows=tuple(rows_of(course, subjects, reference)),
        reference=reference,
        options=options,
        fingerprint=before,
        missing=lineup.missing,
        levels_ms=tuple(course.levels_ms),
        end_to_end=tuple(files),
        is_complete=course.is_complete and not stop(),
        changed=_changes(subjects, course.digests),
    )


def count_steps(question: Question, subjects: Mapping[str, Subject], lineup: Lineup, options: Options) -> int:
    """How often `on_step` will be called, if nothing fails."""
    count, sizes = len(lineup.competitors), len(options.batch_sizes)
    files = sum(can_run(item, subjects[item.target]) for item in lineup.competitors) if question.with_files else 0
    return options.num_launches * (count + sizes * (count + options.num_rounds) + files)


def _open(question: Question) -> dict[str, Subject]:
    if not question.targets or len(set(question.targets)) != len(question.targets):
        raise UsageError("expected one bundle or ONNX file to time, or several different ones.")
    subjects = {target: Subject(Path(target), question.sizes) for target in question.targets}
    for target, subject in subjects.items():
        if not subject.path.exists():
            raise BundleError(f"{target} is not there: expected a bundle or an ONNX file.")
        if subject.bundle is None:
            _check(subject, question)
        elif question.sizes:
            raise UsageError(f"--dim is for ONNX files that are not ours; {target} says by itself what it takes.")
    return subjects


def _check(subject: Subject, question: Question) -> None:
    """Draw a sample and look at the file, so that what cannot be used is said before anything is started."""
    _ = subject.size_bytes("onnx")
    if question.input is None:
        draw_arrays(subject, subject.fixed_batch or 1, np.random.default_rng(0))
    elif not subject.tensors:
        raise UsageError(f"{subject.path} has no inputs.")


def _changes(subjects: Mapping[str, Subject], before: Mapping[str, str]) -> str:
    """What was changed since, in a sentence; empty for nothing."""
    for target, subject in subjects.items():
        try:
            if subject.digest != before[target]:
                return f"{target} was changed while it was timed."
            subject.check()
        except (BundleError, OSError) as error:
            return f"{target} was changed while it was timed: {error}"
    return ""
