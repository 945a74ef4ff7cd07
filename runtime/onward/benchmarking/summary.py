"""Stability: why a row's figures would not be the same if it were timed again.

Row: what a competitor came to at one batch size.

Standings: what was seen of all competitors becomes rows that stand beside one another.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onward.benchmarking.matrix import remedy_for
from onward.benchmarking.measurement import Launch, Log, Turn
from onward.benchmarking.model import Subject
from onward.benchmarking.runner import Course
from onward.benchmarking.spec import REFERENCE, Competitor
from onward.errors import UsageError
from onward.host.cpu import count_cores
from onward.parity import MAX_NOISE_RATIO
from onward.statistics import Interval, quiet_level, ratio_interval, side_by_side

__all__ = [
    "MEASURED",
    "STATUSES",
    "Instability",
    "Latency",
    "Row",
    "Stages",
    "choose_reference",
    "find_instabilities",
    "find_leaks",
    "rows_of",
]


#: Half the width of the ratio's 95 % interval, as a share of it: two such ratios differ by less than 3 %, as a rule.
MAX_SPREAD = 0.02
#: Between the launches with the lowest and the highest median, relative to the others.
MAX_BETWEEN_LAUNCHES = 0.06
#: From the first third of a launch's rounds to the last, relative to the others.
MAX_DRIFT = 0.05
MIN_ROUNDS_FOR_DRIFT = 9
#: Share of a turn that its threads waited for a processor.
MAX_WAITED = 0.05
#: Share of the turns that may have waited more than that.
MAX_WAITING_TURNS = 0.25
MAX_STOLEN = 0.02
#: Cores that may be busy while nothing is asked for, and threads that may come with a launch's rounds.
MAX_BUSY_CORES = 0.2
MAX_NEW_THREADS = 4

Rounds = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Instability:
    """One reason why a row's figures would not be the same again.

    Args:
        kind: `warm-up`, `rounds`, `launches`, `drift`, `load`, `host`, `busy` or `threads`.
        detail: A sentence's worth of it, for people.
    """

    kind: str
    detail: str


def find_instabilities(
    turns: Sequence[Sequence[Turn]],
    relative: Rounds,
    levels: Sequence[float],
    ratio: Interval | None,
    *,
    is_settled: bool,
    threads: int,
) -> list[Instability]:
    """None where the rounds agree.

    Args:
        turns: Launch -> turn after turn.
        relative: Launch -> round -> latency over the level that all competitors had in that round, where their
            medians are 1.
        levels: Launch -> latency over the level that all competitors had in that launch.
        ratio: To the reference; None for the reference itself.
        is_settled: Whether every warm-up ended because it got no faster.
        threads: Of an inference.
    """
    return [
        *([] if is_settled else [Instability("warm-up", "still getting faster when the warm-up was over")]),
        *(_launches(levels) if ratio is None else _disagreement(ratio)),
        *_drift(relative),
        *_other_times(turns, threads),
    ]


def find_leaks(launches: Sequence[Launch], turns: Sequence[Sequence[Turn]]) -> Iterator[Instability]:
    """What a process holds on to: it would slow down whoever it shares a machine with."""
    busy = max((launch.busy_cores or 0.0 for launch in launches), default=0.0)
    if busy > MAX_BUSY_CORES:
        yield Instability("busy", f"keeps {busy:.1f} cores busy while nothing is asked of it")
    grown = max((some[-1].num_threads - some[0].num_threads for some in turns), default=0)
    if grown > MAX_NEW_THREADS:
        yield Instability("threads", f"leaks threads: {grown} more at the end of its rounds than at their start")


def _disagreement(ratio: Interval | None) -> Iterator[Instability]:
    if ratio is not None and ratio.spread > MAX_SPREAD:
        yield Instability("rounds", f"rounds or launches disagree: the ratio is known to ±{ratio.spread:.1%} only")


def _launches(levels: Sequence[float]) -> Iterator[Instability]:
    if levels and (between := max(levels) / min(levels) - 1) > MAX_BETWEEN_LAUNCHES:
        yield Instability("launches", f"launches disagree: one is {between:.0%} slower than another")


def _drift(relative: Rounds) -> Iterator[Instability]:
    """In each launch, so that what comes back with a new process is not taken for noise."""
    drifts = [_drift_of(rounds) for rounds in relative if len(rounds) >= MIN_ROUNDS_FOR_DRIFT]
    if drifts and (min(drifts) > MAX_DRIFT or max(drifts) < -MAX_DRIFT):
        drift = float(np.median(drifts))
        how = "slower" if drift > 0 else "faster"
        yield Instability("drift", f"gets {how}: by {abs(drift):.0%} from a launch's first rounds to its last")


def _drift_of(rounds: Sequence[float]) -> float:
    """From the first third to the last; 0 where they overlap by more than a quarter of each."""
    third = len(rounds) // 3
    first, last = np.asarray(rounds[:third]), np.asarray(rounds[-third:])
    is_apart = np.percentile(last, 25) > np.percentile(first, 75) or np.percentile(last, 75) < np.percentile(first, 25)
    return float(np.median(last) / np.median(first)) - 1 if is_apart else 0.0


def _other_times(turns: Sequence[Sequence[Turn]], threads: int) -> Iterator[Instability]:
    """Others on the same processor, on this machine and beside it."""
    every = [turn for some in turns for turn in some]
    waiting = [turn for turn in every if _has_waited(turn, threads)]
    stolen = [turn.stolen_s / turn.wall_s for turn in every if turn.stolen_s is not None]
    if len(waiting) > MAX_WAITING_TURNS * len(every):
        part = f"{len(waiting)} of {len(every)} turns"
        yield Instability("load", f"something else ran: its threads waited for a processor in {part}")
    if stolen and (share := float(np.mean(stolen))) > MAX_STOLEN:
        yield Instability("host", f"the host took {share:.0%} of the time from this machine")


def _has_waited(turn: Turn, threads: int) -> bool:
    """Whether its threads waited for a processor because of others; of what wants more cores than there are, no."""
    if turn.waited_s is None or threads > count_cores():
        return False
    return turn.waited_s > MAX_WAITED * turn.wall_s * threads


#: `imprecise`: further from the mathematics than the gate lets an artifact be; `wrong`: not the model's outputs at all.
MEASURED, IMPRECISE = "measured", "imprecise"
#: `unreached`: the run was ended before its first turn.
STATUSES = (MEASURED, IMPRECISE, "wrong", "failed", "missing", "unreached")
#: Of the latencies that a report draws.
DRAWN_PERCENT = (0, 1, 5, 10, 25, 50, 75, 90, 95, 99, 100)


@dataclass(frozen=True)
class Latency:
    """Of all timed inferences, in milliseconds.

    Args:
        median: Half of them took less.
        p90: 90 % took less.
        p99: 99 % took less.
        percentiles: Percent -> ms, for a picture.
    """

    median: float
    p90: float
    p99: float
    percentiles: Mapping[int, float]

    @classmethod
    def of(cls, latencies_ms: NDArray[np.float32]) -> Latency:
        """Of single latencies."""
        values = np.percentile(latencies_ms.astype(np.float64), DRAWN_PERCENT)
        found = dict(zip(DRAWN_PERCENT, values.tolist(), strict=True))
        return cls(found[50], found[90], found[99], found)

    def to_json(self) -> dict[str, Any]:
        """The figures; percentiles by their number as text."""
        percentiles = {str(percent): value for percent, value in self.percentiles.items()}
        return {"median": self.median, "p90": self.p90, "p99": self.p99, "percentiles": percentiles}


@dataclass(frozen=True)
class Stages:
    """From nothing to a steady state; medians over launches.

    Args:
        process_s: Until the interpreter runs the first line.
        import_s: The library.
        open_s: Reading the file, checking its digest, preparing the model.
        first_ms: The first inference at this batch size; at the smallest, the first of the process.
        idle_ms: An inference after a pause, at the smallest batch size.
    """

    process_s: float
    import_s: float
    open_s: float
    first_ms: float | None
    idle_ms: float | None


@dataclass(frozen=True)
class Row:
    """What a competitor came to at one batch size.

    Args:
        competitor: Which one.
        batch_size: Samples an inference.
        status: Of `STATUSES`.
        reason: Why it is not `measured`.
        name: What its backend says that it is.
        placement: Execution provider -> nodes that it runs.
        latency: Of the timed inferences; None where there were none.
        images_per_s: Batch size over the median.
        ratio: How many times as fast as the reference, with its 95 % interval; None without one, and of wrong answers.
        instabilities: Why the figures would not be the same again.
        noise_ratio: The worst of the timed outputs that were looked at, in PyTorch's own error.
        max_delta: Largest difference from the first competitor's outputs, over their largest value.
        num_labelled: Labelled samples.
        num_correct: Of these, right ones.
        file_bytes: Of the artifact.
        peak_bytes: The most memory that the process ever had, up to this batch size.
        stages: From nothing to here.
        num_inferences: Timed ones.
        num_warm_up: Inferences until the level had settled, the median over launches.
        rounds_ms: Launch -> round -> the quiet level of its latencies: a tenth of them are no longer.
    """

    competitor: Competitor
    batch_size: int
    status: str
    reason: str = ""
    name: str = ""
    placement: Mapping[str, int] | None = None
    latency: Latency | None = None
    images_per_s: float | None = None
    ratio: Interval | None = None
    instabilities: tuple[Instability, ...] = ()
    noise_ratio: float | None = None
    max_delta: float | None = None
    num_labelled: int = 0
    num_correct: int = 0
    file_bytes: int | None = None
    peak_bytes: int | None = None
    stages: Stages | None = None
    num_inferences: int = 0
    num_warm_up: int = 0
    rounds_ms: Sequence[Sequence[float]] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "rounds_ms", tuple(map(tuple, self.rounds_ms)))  # rows of equal figures are equal

    @property
    def is_stable(self) -> bool:
        """Whether the figures would be the same again."""
        return self.latency is not None and not self.instabilities

    @property
    def is_right(self) -> bool:
        """Whether it was timed and its outputs are the model's, be they imprecise."""
        return self.status in (MEASURED, IMPRECISE)

    @property
    def accuracy(self) -> float | None:
        """Share of the labelled samples that got their label."""
        return self.num_correct / self.num_labelled if self.num_labelled else None


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


def _rounds(log: Log, batch_size: int) -> list[list[float]]:
    return [[turn.quiet_ms for turn in turns] for turns in log.turns(batch_size)]


def _is_wrong(log: Log, batch_size: int) -> bool:
    return any(turn.is_wrong for turns in log.turns(batch_size) for turn in turns)


def _ratio(reference: Log, rounds: list[list[float]], batch_size: int) -> Interval | None:
    both = side_by_side(_rounds(reference, batch_size), rounds)
    return ratio_interval(both) if both else None


def _relative(log: Log, course: Course, batch_size: int) -> list[list[float]]:
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


def _others(log: Log, course: Course, batch_size: int) -> list[list[list[float]]]:
    """The machine's level, and the latencies of all but one."""
    machine = [levels[batch_size] for levels in course.levels_ms if batch_size in levels]
    others = (_rounds(other, batch_size) for other in course.logs if other is not log and other.turns(batch_size))
    return [machine, *others]


def _level(rounds: list[list[float]]) -> list[list[float]]:
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
