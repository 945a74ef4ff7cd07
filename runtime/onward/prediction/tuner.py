"""Tuner: finds the batch size, and the number of inferences at a time, by measuring the batches of the run itself."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from threading import Lock
from time import perf_counter

__all__ = ["Plan", "Tuner"]

#: Two plans are compared by alternating trials, so that other load on the machine affects both.
NUM_ROUNDS = 2
#: Minimum length of a trial: inferences per stream, and seconds.
MIN_INFERENCES, MIN_TRIAL_S = 2, 0.05
#: If threads spend a smaller share of their time in the model, decoding limits the run and tuning stops.
MIN_SHARE = 0.5
#: How much faster another batch size, and another arrangement of threads, has to be; less is noise.
BETTER_SIZE, BETTER_ARRANGEMENT = 1.05, 1.15
LARGEST_BATCH = 4096


@dataclass(frozen=True)
class Plan:
    """How inference uses the machine.

    Args:
        batch_size: Images per inference.
        streams: Inferences at the same time.
        threads: Threads per inference.
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


#: Yields plans to try, receives images/s of each, and returns the best.
Search = Generator[Plan, float, Plan]


class Tuner:
    """Chooses the plan of the next batch.

    It tries half and double of the best batch size so far, as long as that helps; then other arrangements, such as one
    inference on all cores instead of one on each. It stops if decoding takes most of the time.

    Args:
        plan: The first plan.
        largest: Largest batch size to try.
        sizes: Whether to tune the batch size.
        arrangements: Other pairs (streams, threads) to try at the best batch size.
        clock: Wall-clock time in seconds.
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
        self.search = _search(plan, self.largest if sizes else 0, arrangements, lambda: self.share >= MIN_SHARE)
        self._next_trial(lambda: next(self.search))

    def record(self, plan: Plan, num_images: int, seconds: float) -> None:
        """Record the time of one inference.

        Args:
            plan: Its plan.
            num_images: Its number of images.
            seconds: Time in the model.
        """
        with self.lock:
            if self.is_settled or plan != self.plan or num_images < plan.batch_size:
                return
            self.num_recorded += 1
            if self.num_recorded <= plan.streams:
                return  # the first inference of each stream allocates memory for the new size
            self.num_images += num_images
            self.seconds += seconds
            enough = self.num_recorded - plan.streams >= MIN_INFERENCES * plan.streams
            if enough and self.seconds >= MIN_TRIAL_S * plan.streams:
                images_per_s = plan.streams * self.num_images / self.seconds
                self.share = self.seconds / (plan.streams * max(self.clock() - self.began_s, 1e-9))
                self._next_trial(lambda: self.search.send(images_per_s))

    def limit(self, batch_size: int) -> None:
        """Stop tuning and use no larger batch: memory ran out."""
        with self.lock:
            self.largest = min(self.largest, batch_size)
            self._settle(self.plan)

    def _next_trial(self, step: Callable[[], Plan]) -> None:
        """Start the next trial, or settle on the best plan."""
        self.num_recorded, self.num_images, self.seconds, self.began_s = 0, 0, 0.0, self.clock()
        try:
            self.plan = step()
        except StopIteration as end:
            self._settle(end.value)

    def _settle(self, plan: Plan) -> None:
        self.plan = replace(plan, batch_size=min(plan.batch_size, self.largest))
        self.is_settled = True
        self.search.close()


def _search(
    plan: Plan, largest: int, arrangements: Sequence[tuple[int, int]], is_worth_it: Callable[[], bool]
) -> Search:
    """The best plan, of batch sizes up to the largest and of all arrangements."""
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


def _compare(plan: Plan, other: Plan, better: float) -> Search:
    """The other plan if it is faster by this factor."""
    rates: dict[Plan, list[float]] = {plan: [], other: []}
    for _ in range(NUM_ROUNDS):
        for item in (plan, other):
            rates[item].append((yield item))
    return other if median(rates[other]) > better * median(rates[plan]) else plan
