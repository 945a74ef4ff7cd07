"""Standings: what was seen of all competitors becomes rows that stand beside one another."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from onward.benchmarking.competitor import REFERENCE, Competitor
from onward.benchmarking.lineup import remedy_for
from onward.benchmarking.log import Launch, Log
from onward.benchmarking.row import Latency, Row, Stages
from onward.benchmarking.run import Course
from onward.benchmarking.stability import find_instabilities, find_leaks
from onward.benchmarking.subject import Subject
from onward.benchmarking.turn import Turn
from onward.errors import UsageError
from onward.intervals import Interval, quiet_level, ratio_interval, side_by_side
from onward.parity import MAX_NOISE_RATIO

__all__ = ["choose_reference", "rows_of"]

Rounds = list[list[float]]


def choose_reference(competitors: Sequence[Competitor], asked: str | None = None) -> Competitor:
    """What the others are compared with: PyTorch of the first target, else the first of all.

    Args:
        competitors: In order.
        asked: A backend, or a target, or both with a colon between them.

    Raises:
        UsageError: What was asked for is not among them.
    """
    for competitor in competitors:
        if asked is None and competitor.backend == REFERENCE:
            return competitor
        names = (competitor.backend, competitor.target, f"{competitor.target}:{competitor.backend}")
        if asked in names:
            return competitor
    if asked is not None:
        there = ", ".join(dict.fromkeys(competitor.backend for competitor in competitors))
        raise UsageError(f"--reference is {asked!r}, which is not timed; there are {there}.")
    return competitors[0]


def rows_of(course: Course, subjects: Mapping[str, Subject], reference: Competitor) -> list[Row]:
    """Competitor after competitor within a batch size, from the smallest up; one row for what was never timed."""
    batch_sizes = sorted({size for log in course.logs for launch in log.launches for size in launch.first_ms})
    rows = [
        _row(log, batch_size, course, subjects[log.competitor.target], reference)
        for batch_size in batch_sizes
        for log in course.logs
        if log.turns(batch_size)
    ]
    return rows + [_failed(log) for log in course.logs if log.failure or not any(map(log.turns, batch_sizes))]


def _failed(log: Log) -> Row:
    if not log.failure:
        return Row(log.competitor, 0, "unreached", "not reached: the run was ended before.", log.name, log.placement)
    status = "missing" if remedy_for(log.competitor.backend) else "failed"
    return Row(log.competitor, 0, status, log.failure, log.name, log.placement)


def _row(log: Log, batch_size: int, course: Course, subject: Subject, reference: Competitor) -> Row:
    turns = log.turns(batch_size)
    every = [turn for some in turns for turn in some]
    rounds = _rounds(log, batch_size)
    status, reason = _status(every, subject)
    against = next(other for other in course.logs if other.competitor == reference)
    is_comparable = status != "wrong" and not _is_wrong(against, batch_size)
    ratio = _ratio(against, rounds, batch_size) if is_comparable else None
    latency = Latency.of(np.concatenate([turn.latencies_ms for turn in every]))
    settled = [launch.settled[batch_size] for launch in log.launches if batch_size in launch.settled]
    return Row(
        competitor=log.competitor,
        batch_size=batch_size,
        status=status,
        reason=reason,
        name=log.name,
        placement=log.placement,
        latency=latency,
        images_per_s=batch_size / latency.median * 1e3,
        ratio=ratio,
        instabilities=(
            *find_instabilities(
                turns,
                _relative(log, course, batch_size),
                _launch_levels(log, course, batch_size),
                ratio if log.competitor != reference else None,
                is_settled=all(item.is_settled for item in settled),
                threads=log.competitor.threads,
            ),
            *find_leaks(log.launches, turns),
        ),
        noise_ratio=max(turn.noise_ratio for turn in every) if subject.bundle else None,
        max_delta=log.max_delta,
        num_labelled=log.num_labelled,
        num_correct=log.num_correct,
        file_bytes=subject.size_bytes(log.competitor.kind.format),
        peak_bytes=max(turn.peak_bytes for turn in every) or None,
        stages=_stages(log.launches, batch_size),
        num_inferences=sum(len(turn.latencies_ms) for turn in every),
        num_warm_up=int(statistics.median(item.num_inferences for item in settled)) if settled else 0,
        rounds_ms=rounds,
    )


def _status(turns: Sequence[Turn], subject: Subject) -> tuple[str, str]:
    """What the outputs that were looked at say, and in a sentence why."""
    if all(turn.passed for turn in turns):
        return "measured", ""
    far = f"its outputs are up to {max(turn.noise_ratio for turn in turns):,.1f} times as far from the reference"
    if not any(turn.is_wrong for turn in turns):
        return "imprecise", f"imprecise: {far} as PyTorch's, and the gate is {MAX_NOISE_RATIO:g}"
    if subject.bundle:
        return "wrong", f"WRONG: {far} as PyTorch's"
    return "wrong", "WRONG: it does not give the same outputs for the same samples"


def _rounds(log: Log, batch_size: int) -> Rounds:
    return [[turn.quiet_ms for turn in turns] for turns in log.turns(batch_size)]


def _is_wrong(log: Log, batch_size: int) -> bool:
    return any(turn.is_wrong for turns in log.turns(batch_size) for turn in turns)


def _ratio(reference: Log, rounds: Rounds, batch_size: int) -> Interval | None:
    both = side_by_side(_rounds(reference, batch_size), rounds)
    return ratio_interval(both) if both else None


def _relative(log: Log, course: Course, batch_size: int) -> Rounds:
    """Latencies over the level that the others, and the machine, had in the same round."""
    others = [_level(other) for other in _others(log, course, batch_size)]
    relative = []
    for at, rounds in enumerate(_level(_rounds(log, batch_size))):
        levels = [list(column) for column in _columns([other[at] for other in others if at < len(other)])]
        relative.append([own / statistics.median(level) for own, level in zip(rounds, levels, strict=False)])
    return relative


def _launch_levels(log: Log, course: Course, batch_size: int) -> list[float]:
    """Quiet levels, launch after launch, over those that the others, and the machine, had in the same launch."""
    others = [_level([[quiet_level(some) for some in other]])[0] for other in _others(log, course, batch_size)]
    levels = []
    for at, rounds in enumerate(_rounds(log, batch_size)):
        there = [other[at] for other in others if at < len(other)]
        levels.append(quiet_level(rounds) / statistics.median(there))
    return levels


def _others(log: Log, course: Course, batch_size: int) -> list[Rounds]:
    """The machine's level, and the latencies of all but one."""
    machine = [levels[batch_size] for levels in course.levels_ms if batch_size in levels]
    others = (_rounds(other, batch_size) for other in course.logs if other is not log and other.turns(batch_size))
    return [machine, *others]


def _level(rounds: Rounds) -> Rounds:
    """Each figure over the median of all."""
    middle = statistics.median(figure for some in rounds for figure in some)
    return [[figure / middle for figure in some] for some in rounds]


def _columns(rows: Sequence[Sequence[float]]) -> Iterator[tuple[float, ...]]:
    """Round by round, as far as all of them go."""
    return zip(*rows, strict=False)


def _stages(launches: Sequence[Launch], batch_size: int) -> Stages:
    seconds = {
        stage: statistics.median(launch.stages[stage] for launch in launches)
        for stage in ("process_s", "import_s", "open_s")
    }
    first = [launch.first_ms[batch_size] for launch in launches if batch_size in launch.first_ms]
    idle = [launch.idle_ms for launch in launches if launch.idle_ms is not None]
    return Stages(
        **seconds,
        first_ms=statistics.median(first) if first else None,
        idle_ms=statistics.median(idle) if idle else None,
    )
