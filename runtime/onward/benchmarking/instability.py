"""Instability: why a row's figures are not reproducible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from onward.benchmarking.measurements import ProcessRun
from onward.benchmarking.sample import Sample
from onward.host.cpu import count_cores
from onward.statistics import Interval

__all__ = ["Instability", "find_instabilities", "find_leaks"]

#: Half the width of the ratio's 95 % interval, over the ratio: two such ratios usually differ by less than 3 %.
MAX_SPREAD = 0.02
#: Slowdown of the slowest process run against the fastest, relative to the other candidates.
MAX_BETWEEN_PROCESS_RUNS = 0.06
#: Fewer process runs are closer together by chance: their number -> the share of the limit that holds for them. The
#: range of so many normal values, at its 5 % quantile, over that of five.
SHARE_OF_FEW = {2: 0.085, 3: 0.42, 4: 0.74}
#: From the first third of a process run's rounds to the last third, relative to the other candidates.
MAX_DRIFT = 0.05
MIN_ROUNDS_FOR_DRIFT = 9
#: Share of a sample's time that its threads may wait for a processor.
MAX_WAITED = 0.05
#: Share of the samples that may wait longer.
MAX_WAITING_SAMPLES = 0.25
MAX_STOLEN = 0.02
#: Cores that may be busy while the process is idle, and threads that the rounds of a process run may add.
MAX_BUSY_CORES = 0.2
MAX_NEW_THREADS = 4

Rounds = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Instability:
    """One reason why a row's figures are not reproducible.

    Args:
        kind: `warm-up`, `rounds`, `process-runs`, `drift`, `load`, `host`, `busy` or `threads`.
        detail: What was found, as half a sentence.
    """

    kind: str
    detail: str


def find_instabilities(
    samples: Sequence[Sequence[Sample]],
    normalised_rounds: Rounds,
    normalised_process_runs: Sequence[float],
    ratio: Interval | None,
    *,
    is_steady: bool,
    threads: int,
) -> list[Instability]:
    """Everything that makes figures unreproducible; empty if they are stable.

    Args:
        samples: Process run -> sample, round by round.
        normalised_rounds: Process run -> round -> latency, over that of the other candidates in the same round.
        normalised_process_runs: Process run -> latency, over that of the other candidates in the same process run.
        ratio: To the reference; None for the reference itself.
        is_steady: Whether every warm-up ended because inferences got no faster.
        threads: Threads per inference.
    """
    return [
        *([] if is_steady else [Instability("warm-up", "inferences still got faster when the warm-up ended")]),
        *(_disagreement_of_process_runs(normalised_process_runs) if ratio is None else _disagreement(ratio)),
        *_drift(normalised_rounds),
        *_interference(samples, threads),
    ]


def find_leaks(process_runs: Sequence[ProcessRun], samples: Sequence[Sequence[Sample]]) -> Iterator[Instability]:
    """Cores and threads that a process does not release: they slow down whatever shares the machine with it."""
    busy = max((run.busy_cores or 0.0 for run in process_runs), default=0.0)
    if busy > MAX_BUSY_CORES:
        yield Instability("busy", f"keeps {busy:.1f} cores busy while idle")
    grown = max((some[-1].num_threads - some[0].num_threads for some in samples), default=0)
    if grown > MAX_NEW_THREADS:
        yield Instability("threads", f"leaks threads: {grown} more after its rounds than before")


def _disagreement(ratio: Interval) -> Iterator[Instability]:
    if ratio.spread > MAX_SPREAD:
        known = f"only known to ±{ratio.spread:.1%}" if ratio.spread < 1 else "not known"
        yield Instability("rounds", f"rounds or process runs disagree: the ratio is {known}")


def _disagreement_of_process_runs(normalised: Sequence[float]) -> Iterator[Instability]:
    limit = MAX_BETWEEN_PROCESS_RUNS * SHARE_OF_FEW.get(len(normalised), 1.0)
    if normalised and (slowdown := max(normalised) / min(normalised) - 1) > limit:
        how = f"is {slowdown:.0%} slower than" if slowdown < 1 else f"takes {slowdown + 1:.3g} times as long as"
        yield Instability("process-runs", f"process runs disagree: one {how} another")


def _drift(normalised_rounds: Rounds) -> Iterator[Instability]:
    """A drift in every process run: what a single process run shows may be noise."""
    drifts = [_drift_of(rounds) for rounds in normalised_rounds if len(rounds) >= MIN_ROUNDS_FOR_DRIFT]
    if drifts and (min(drifts) > MAX_DRIFT or max(drifts) < -MAX_DRIFT):
        drift = float(np.median(drifts))
        how = "slower" if drift > 0 else "faster"
        by = f"by {abs(drift):.0%}" if drift < 1 else f"{drift + 1:.3g} times as long"
        yield Instability("drift", f"gets {how}: {by} from a process run's first rounds to its last")


def _drift_of(rounds: Sequence[float]) -> float:
    """From the first third to the last; 0 if they overlap by more than a quarter of each."""
    third = len(rounds) // 3
    first, last = np.asarray(rounds[:third]), np.asarray(rounds[-third:])
    is_apart = np.percentile(last, 25) > np.percentile(first, 75) or np.percentile(last, 75) < np.percentile(first, 25)
    return float(np.median(last) / np.median(first)) - 1 if is_apart else 0.0


def _interference(samples: Sequence[Sequence[Sample]], threads: int) -> Iterator[Instability]:
    """Other programs on this machine, and other machines on the same host."""
    every = [sample for some in samples for sample in some]
    waiting = [sample for sample in every if _has_waited(sample, threads)]
    stolen = [sample.stolen_s / sample.wall_s for sample in every if sample.stolen_s is not None]
    if len(waiting) > MAX_WAITING_SAMPLES * len(every):
        part = f"{len(waiting)} of {len(every)} samples"
        yield Instability("load", f"another program ran: threads waited for a processor in {part}")
    if stolen and (share := float(np.mean(stolen))) > MAX_STOLEN:
        yield Instability("host", f"the hypervisor took {share:.0%} of the time from this machine")


def _has_waited(sample: Sample, threads: int) -> bool:
    """Whether threads waited because of another program; with more threads than cores they wait for one another."""
    if sample.waited_s is None or threads > count_cores():
        return False
    return sample.waited_s > MAX_WAITED * sample.wall_s * threads
