"""Wilson's interval: where the share lies that some of a number were drawn from.

Intervals: where a ratio lies, within a run and between two.

A shared machine's neighbours make everything take up to twice as long, for a tenth of a second or for minutes, and one
program more than another. They never make anything faster: what is compared is the quiet level, what a tenth of a
launch's rounds stay below. What is left differs from process to process, so that the launch is what was drawn at random
and counts once, however many rounds it has.

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
    "QUIET_PERCENT",
    "Interval",
    "Launches",
    "change_interval",
    "level_of",
    "quiet_level",
    "ratio_interval",
    "side_by_side",
    "students_t",
    "wilson_interval",
]


#: Standard deviations that 95 % of a normal distribution lie within.
Z_95 = 1.959964


def wilson_interval(num_correct: int, count: int) -> tuple[float, float]:
    """The 95 % interval of a share, 0 to 1.

    Args:
        num_correct: Of the number, those that count.
        count: The number, above 0.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", 1927.
    """
    share = num_correct / count
    centre = (share + Z_95**2 / (2 * count)) / (1 + Z_95**2 / count)
    spread = math.sqrt(share * (1 - share) / count + Z_95**2 / (4 * count**2)) * Z_95 / (1 + Z_95**2 / count)
    return centre - spread, centre + spread


#: A level is quiet where so many of all are no higher. The least of all would fall the longer one looks.
QUIET_PERCENT = 10
NUM_RESAMPLES = 200
SEED = 0
#: 97.5 % of a normal distribution, and of Student's t with 1, 2, 3 … degrees of freedom, are below.
NORMAL = 1.959964
STUDENT = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)
#: Between launches, taken where each side has one launch only and nothing can be seen of it (standard deviation).
ASSUMED_BETWEEN_LAUNCHES = 0.02
#: Launch -> two competitors' figures of the same rounds, as many of the one as of the other, at least one.
Launches = Sequence[tuple[Sequence[float], Sequence[float]]]


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def spread(self) -> float:
        """Half of its width, as a share of the figure."""
        return (self.high - self.low) / 2 / self.value

    def to_json(self) -> dict[str, float]:
        """The three figures."""
        return {"value": self.value, "low": self.low, "high": self.high}


def quiet_level(figures: Sequence[float] | NDArray[np.float32]) -> float:
    """What they come to where nothing disturbs them."""
    return float(np.percentile(figures, QUIET_PERCENT))


def side_by_side(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> Launches:
    """Launch -> round -> figure of two competitors, as far as both have them: one that failed has fewer."""
    pairs = ((mine[: len(theirs)], theirs[: len(mine)]) for mine, theirs in zip(first, second, strict=False))
    return [(mine, theirs) for mine, theirs in pairs if mine]


def level_of(launches: Launches) -> float:
    """The first's quiet level over the second's: the geometric mean over launches."""
    return math.exp(statistics.fmean(_log_ratios(launches)))


def ratio_interval(launches: Launches) -> Interval:
    """`level_of` with Student's interval over launches; of one launch alone, with what its rounds say.

    Args:
        launches: At least one.
    """
    logs = _log_ratios(launches)
    variance = statistics.variance(logs) if len(logs) > 1 else _variance_within(launches)
    return _around(statistics.fmean(logs), students_t(len(logs) - 1) * math.sqrt(variance / len(logs)))


def change_interval(before: Launches, after: Launches) -> Interval:
    """`level_of` after over `level_of` before, where both were measured by themselves.

    Both sides share one variance, that of the launches; where each has but one, it is assumed.

    Coverage, measured over 1,500 pairs (launch effect, round noise; before | after):

        3 launches of 7 rounds: 1 %, 2 % | the same      95 %
        2 %, 1 % | the same                              95 %
        0.5 %, 0.5 % | 3 %, 2 %                          92 %
        5 launches 0.5 %, 1 % | 3 of 3 %, 2 %            85 %: have as many launches on both sides
        5 launches of 30 rounds: 1 %, 2 % | the same     94 %
        1 %, 1 %, and a neighbour in 30 % | 60 % of all rounds, who makes them 1.85 and 1.7 times as long    94 %

    Args:
        before: At least one launch.
        after: So, too; other launches, and not necessarily as many.

    Source: Student's two-sample interval.
    """
    sides = [_log_ratios(launches) for launches in (before, after)]
    change = statistics.fmean(sides[1]) - statistics.fmean(sides[0])
    freedom = sum(len(logs) - 1 for logs in sides)
    if freedom:
        variance = sum(sum((log - statistics.fmean(logs)) ** 2 for log in logs) for logs in sides) / freedom
    else:
        variance = ASSUMED_BETWEEN_LAUNCHES**2 + _variance_within([*before, *after])
    return _around(change, students_t(freedom) * math.sqrt(variance * sum(1 / len(logs) for logs in sides)))


def students_t(freedom: int) -> float:
    """97.5 % of Student's t are below; of the normal distribution for 0, where a variance is assumed.

    Source: Abramowitz and Stegun, 26.7.5, beyond the table.
    """
    if 1 <= freedom <= len(STUDENT):
        return STUDENT[freedom - 1]
    if freedom < 1:
        return NORMAL
    z, n = NORMAL, freedom
    first, second = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96
    return z + first / n + second / n**2 + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * n**3)


def _log_ratios(launches: Launches) -> list[float]:
    return [math.log(quiet_level(first) / quiet_level(second)) for first, second in launches]


def _variance_within(launches: Launches) -> float:
    """Of a launch's log ratio, were other rounds drawn (a bootstrap over rounds).

    Source: Davison and Hinkley, Bootstrap Methods and their Application, 1997, section 2.
    """
    variances = []
    for launch in launches:
        sides = np.asarray(launch)
        num_rounds = sides.shape[1]
        chosen = np.random.default_rng(SEED).integers(num_rounds, size=(NUM_RESAMPLES, num_rounds))
        first, second = np.log(np.percentile(sides[:, chosen], QUIET_PERCENT, axis=-1))
        variances.append(float(np.var(first - second)))
    return statistics.fmean(variances)


def _around(log: float, width: float) -> Interval:
    return Interval(math.exp(log), math.exp(log - width), math.exp(log + width))
