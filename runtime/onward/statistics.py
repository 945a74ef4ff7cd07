"""Statistics: intervals of a share, of a ratio within one benchmark, and of its change between two.

Other tenants of a shared machine make everything up to twice as slow, for a tenth of a second or for minutes, and some
programs more than others. They never make anything faster. So latencies are compared at their 10th percentile (p10),
over the rounds of a process run. What remains differs from process to process: the process run is the unit that was
drawn at random, and it counts once, however many rounds it has.

Source: Chen and Revels, Robust Benchmarking in Noisy Environments, 2016; Kalibera and Jones, Rigorous Benchmarking in
Reasonable Time, 2013.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Interval",
    "PairedRounds",
    "change_interval",
    "mean_ratio",
    "p10",
    "pair_rounds",
    "ratio_interval",
    "students_t",
    "wilson_interval",
]

#: The 97.5 % quantile of the normal distribution.
Z_95 = 1.959964
#: The 97.5 % quantile of Student's t with 1, 2, 3 … degrees of freedom.
STUDENTS_T = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)
#: Not the minimum, which falls the longer one measures.
P10_PERCENT = 10
NUM_RESAMPLES = 200
SEED = 0
#: Standard deviation between process runs, assumed if each side has only one and it cannot be measured.
ASSUMED_BETWEEN_PROCESS_RUNS = 0.02
#: Process run -> figures of two candidates in the same rounds; both have the same number, at least one.
PairedRounds = Sequence[tuple[Sequence[float], Sequence[float]]]


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """Half the interval's width, over the figure."""
        return (self.high - self.low) / 2 / self.value

    def to_json(self) -> dict[str, float]:
        """The one JSON form."""
        return {"value": self.value, "low": self.low, "high": self.high}


def wilson_interval(num_correct: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share, 0 to 1.

    Args:
        num_correct: How many of `count`.
        count: Above 0.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    share = num_correct / count
    centre = (share + Z_95**2 / (2 * count)) / (1 + Z_95**2 / count)
    spread = math.sqrt(share * (1 - share) / count + Z_95**2 / (4 * count**2)) * Z_95 / (1 + Z_95**2 / count)
    return centre - spread, centre + spread


def p10(figures: Sequence[float] | NDArray[np.float32]) -> float:
    """The 10th percentile: of latencies, that of an undisturbed inference."""
    return float(np.percentile(figures, P10_PERCENT))


def pair_rounds(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> PairedRounds:
    """Process run -> figures of two candidates, cut to the rounds that both have: one that failed has fewer."""
    pairs = ((mine[: len(theirs)], theirs[: len(mine)]) for mine, theirs in zip(first, second, strict=False))
    return [(mine, theirs) for mine, theirs in pairs if mine]


def mean_ratio(pairs: PairedRounds) -> float:
    """The first's p10 over the second's: the geometric mean over process runs."""
    return math.exp(statistics.fmean(_log_ratios(pairs)))


def ratio_interval(pairs: PairedRounds) -> Interval:
    """`mean_ratio` with Student's interval over process runs; with one process run, with a bootstrap over its rounds.

    Args:
        pairs: At least one process run.
    """
    logs = _log_ratios(pairs)
    variance = statistics.variance(logs) if len(logs) > 1 else _variance_within(pairs)
    return _interval(statistics.fmean(logs), students_t(len(logs) - 1) * math.sqrt(variance / len(logs)))


def change_interval(before: PairedRounds, after: PairedRounds) -> Interval:
    """`mean_ratio` after over `mean_ratio` before, for two separate benchmarks.

    Both sides share one variance, that between process runs; if each has only one, it is assumed.

    Coverage, measured over 1,500 pairs (standard deviation of process runs, of rounds; before | after):

        3 process runs of 7 rounds: 1 %, 2 % | the same  95 %
        2 %, 1 % | the same                              95 %
        0.5 %, 0.5 % | 3 %, 2 %                          92 %
        5 of 0.5 %, 1 % | 3 of 3 %, 2 %                  85 %: use as many process runs on both sides
        5 process runs of 30 rounds: 1 %, 2 % | the same 94 %
        1 %, 1 %, and another tenant in 30 % | 60 % of all rounds, which makes the two sides 1.85 and 1.7 times as
        slow                                             94 %

    Args:
        before: At least one process run.
        after: At least one process run; not necessarily as many.

    Source: Student's two-sample interval.
    """
    sides = [_log_ratios(pairs) for pairs in (before, after)]
    change = statistics.fmean(sides[1]) - statistics.fmean(sides[0])
    freedom = sum(len(logs) - 1 for logs in sides)
    if freedom:
        variance = sum(sum((log - statistics.fmean(logs)) ** 2 for log in logs) for logs in sides) / freedom
    else:
        variance = ASSUMED_BETWEEN_PROCESS_RUNS**2 + _variance_within([*before, *after])
    return _interval(change, students_t(freedom) * math.sqrt(variance * sum(1 / len(logs) for logs in sides)))


def students_t(freedom: int) -> float:
    """The 97.5 % quantile of Student's t; for 0 degrees, where the variance is assumed, that of the normal one.

    Source: Abramowitz and Stegun, 26.7.5, beyond the table.
    """
    if 1 <= freedom <= len(STUDENTS_T):
        return STUDENTS_T[freedom - 1]
    if freedom < 1:
        return Z_95
    z, n = Z_95, freedom
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / n + second / n**2 + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)


def _log_ratios(pairs: PairedRounds) -> list[float]:
    return [math.log(p10(first) / p10(second)) for first, second in pairs]


def _variance_within(pairs: PairedRounds) -> float:
    """Variance of a process run's log ratio over its rounds, by a bootstrap.

    Source: Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 2.
    """
    variances = []
    for pair in pairs:
        sides = np.asarray(pair)
        num_rounds = sides.shape[1]
        chosen = np.random.default_rng(SEED).integers(num_rounds, size=(NUM_RESAMPLES, num_rounds))
        first, second = np.log(np.percentile(sides[:, chosen], P10_PERCENT, axis=-1))
        variances.append(float(np.var(first - second)))
    return statistics.fmean(variances)


def _interval(log: float, width: float) -> Interval:
    return Interval(math.exp(log), math.exp(log - width), math.exp(log + width))
