"""Limits: how fast the machine prepares images when it does nothing else, and how fast it infers likewise.

Whoever does both on the same cores cannot be faster than 1 / (1 / prepare + 1 / infer).
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from benchmarks.predict.subject import Subject, normalise, session_of
from benchmarks.predict.turns import ratio_of, speed_of
from onward.images.decode import read_image

__all__ = ["PREPARE", "Limit", "limit_of", "limit_ways"]

PREPARE, INFER = "prepare alone", "infer alone"
BATCH_SIZES = (16, 32)
#: So many images are inferred; they are all alike to a network.
NUM_INFERRED = 256


class Limit:
    """The limit, round by round.

    Args:
        prepare: Images/s, a round.
        infer: Likewise, by the best arrangement.
        arrangement: Which that is.
    """

    def __init__(self, prepare: Sequence[float], infer: Sequence[float], arrangement: str) -> None:
        self.prepare, self.infer, self.arrangement = prepare, infer, arrangement
        self.both = [1 / (1 / one + 1 / other) for one, other in zip(prepare, infer, strict=True)]

    def share(self, speeds: Sequence[float]) -> float:
        """How much of it somebody reaches."""
        return ratio_of(speeds, self.both)


def limit_ways(subject: Subject, paths: Sequence[Path], num_cores: int) -> dict[str, Callable[[], float]]:
    """Measure images/s: of preparing, as Onward prepares them, and of inference by several arrangements.

    An arrangement is named by its batch size, and by inferences at a time × threads of one.
    """
    num_images = min(NUM_INFERRED, len(paths))
    pixels = np.stack([read_image(path, subject.signature) for path in paths[:num_images]])
    images = normalise(pixels, subject.signature)
    whole, single = session_of(subject, num_cores), session_of(subject, 1)
    ways = {PREPARE: speed_of(partial(_prepare, subject, paths, num_cores), len(paths))}
    for size in BATCH_SIZES:
        batches = [images[start : start + size] for start in range(0, num_images, size)]
        arrangements = {
            f"1×{num_cores} threads": partial(_infer, whole, batches, 1),
            f"{num_cores}×1 threads": partial(_infer, single, batches, num_cores),
        }
        for arrangement, run in arrangements.items():
            ways[f"{INFER}, {size}, {arrangement}"] = speed_of(run, num_images)
    return ways


def limit_of(speeds: Mapping[str, Sequence[float]]) -> Limit:
    """The limit that was measured."""
    arrangements = [way for way in speeds if way.startswith(INFER)]
    best = max(arrangements, key=lambda way: statistics.median(speeds[way]))
    return Limit(speeds[PREPARE], speeds[best], best)


def _prepare(subject: Subject, paths: Sequence[Path], num_threads: int) -> None:
    with ThreadPoolExecutor(num_threads) as pool:
        for _ in pool.map(lambda path: read_image(path, subject.signature), paths):
            pass


def _infer(session: ort.InferenceSession, batches: Sequence[NDArray[np.float32]], num_callers: int) -> None:
    name = session.get_inputs()[0].name
    with ThreadPoolExecutor(num_callers) as pool:
        for _ in pool.map(lambda batch: session.run(None, {name: batch}), batches):
            pass
