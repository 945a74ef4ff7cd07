"""Plan: how many images an inference takes, how many run at a time, and with how many threads each.

Tuning: the plan is found by measurement while a run goes on; what is measured are rows that are wanted anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from threading import Lock
from time import perf_counter

__all__ = ["Plan", "Tuner"]


@dataclass(frozen=True)
class Plan:
    """How inference is spread over the machine.

    Args:
        batch_size: Images an inference.
        streams: Inferences at a time.
        threads: Of one inference.
    """

    batch_size: int
    streams: int
    threads: int

    def __str__(self) -> str:
        streams = f"{self.streams} inferences at a time" if self.streams > 1 else "one inference at a time"
        return f"batches of {self.batch_size}, {streams}, {self.threads} thread{'s' * (self.threads > 1)} each"

    def to_json(self) -> dict[str, int]:
        """As plain data."""
        return asdict(self)


#: Each of two sizes is looked at twice, in turns: what else the machine does then meets both.
NUM_ROUNDS = 2
#: A trial has at least so many inferences a stream, and takes at least so long.
MIN_INFERENCES, MIN_TRIAL_S = 2, 0.05
#: Where threads spend less of their time in the model, no plan makes a run much faster: decoding does.
MIN_SHARE = 0.5
#: A size has to be better by this much, another arrangement of threads by that much; less is noise.
BETTER_SIZE, BETTER_ARRANGEMENT = 1.05, 1.15
LARGEST_BATCH = 4096

Trials = Generator[Plan, float, Plan]


class Tuner:
    """Says which plan the next batch is run by.

    Sizes are tried at half and double of the best so far, as long as that helps. Then the other arrangements: one
    inference on all cores in place of one on each. Neither is gone on with where decoding takes most of the time.

    Args:
        plan: To begin with.
        largest: Batch that is tried.
        sizes: Whether to look for a better batch size.
        arrangements: Others of (streams, threads), to be tried at the best size.
        clock: Seconds of the wall.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        largest: int = LARGEST_BATCH,
        sizes: bool = True,
        arrangements: Sequence[tuple[int, int]] = (),
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self.lock, self.clock = Lock(), clock
        self.largest = max(plan.batch_size, largest)
        self.plan, self.is_settled = plan, False
        self.share = 1.0
        self.trials = _explore(plan, self.largest if sizes else 0, arrangements, lambda: self.share >= MIN_SHARE)
        self._go_on(lambda: next(self.trials))

    def record(self, plan: Plan, num_images: int, seconds: float) -> None:
        """Note what an inference by a plan took.

        Args:
            plan: That it was run by.
            num_images: That it was run on.
            seconds: In the model.
        """
        with self.lock:
            if self.is_settled or plan != self.plan or num_images < plan.batch_size:
                return
            self.num_recorded += 1
            if self.num_recorded <= plan.streams:
                return  # the first of each stream finds memory for arrays of a new size
            self.num_images += num_images
            self.seconds += seconds
            enough = self.num_recorded - plan.streams >= MIN_INFERENCES * plan.streams
            if enough and self.seconds >= MIN_TRIAL_S * plan.streams:
                images_per_s = plan.streams * self.num_images / self.seconds
                self.share = self.seconds / (plan.streams * max(self.clock() - self.began_s, 1e-9))
                self._go_on(lambda: self.trials.send(images_per_s))

    def limit(self, batch_size: int) -> None:
        """From now on no batch is larger: memory ran out."""
        with self.lock:
            self.largest = min(self.largest, batch_size)
            self._settle(self.plan)

    def _go_on(self, step: Callable[[], Plan]) -> None:
        """To the next trial, or to the plan that was found to be the best."""
        self.num_recorded, self.num_images, self.seconds, self.began_s = 0, 0, 0.0, self.clock()
        try:
            self.plan = step()
        except StopIteration as end:
            self._settle(end.value)

    def _settle(self, plan: Plan) -> None:
        self.plan = replace(plan, batch_size=min(plan.batch_size, self.largest))
        self.is_settled = True
        self.trials.close()


def _explore(
    plan: Plan, largest: int, arrangements: Sequence[tuple[int, int]], is_worth_it: Callable[[], bool]
) -> Trials:
    """Yields plans to be tried, of sizes up to the largest, is sent images/s, and returns the best."""
    for factor in (0.5, 2.0):
        before = plan
        while 1 <= (size := int(plan.batch_size * factor)) <= largest and is_worth_it():
            other = replace(plan, batch_size=size)
            if (yield from _compare(plan, other, BETTER_SIZE)) is plan:
                break
            plan = other
        if plan != before:
            break
    for streams, threads in arrangements if is_worth_it() else ():
        other = replace(plan, streams=streams, threads=threads)
        plan = yield from _compare(plan, other, BETTER_ARRANGEMENT)
    return plan


def _compare(plan: Plan, other: Plan, better: float) -> Trials:
    """The other one if it is better by that factor."""
    rates: dict[Plan, list[float]] = {plan: [], other: []}
    for _ in range(NUM_ROUNDS):
        for item in (plan, other):
            rates[item].append((yield item))
    return other if median(rates[other]) > better * median(rates[plan]) else plan
