"""Stability: why a row's figures would not be the same if it were timed again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onward.benchmarking.log import Launch
from onward.benchmarking.turn import Turn
from onward.host.cores import count_cores
from onward.intervals import Interval

__all__ = ["Instability", "find_instabilities", "find_leaks"]

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
        *_others(turns, threads),
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


def _others(turns: Sequence[Sequence[Turn]], threads: int) -> Iterator[Instability]:
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
