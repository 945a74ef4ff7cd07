"""Limits: how fast the machine decodes images if it does nothing else, and how fast it infers if it does nothing else.

A pipeline that does both on the same cores cannot be faster than 1 / (1 / decode + 1 / infer).
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

from benchmarks.predict.network import BenchmarkNetwork, normalise, session_of
from benchmarks.predict.rounds import ratio_of, throughput_of
from onward.images.decode import read_image

__all__ = ["DECODE", "Limit", "limit_of", "limit_ways"]

DECODE, INFER = "decode alone", "infer alone"
BATCH_SIZES = (16, 32)
#: Number of images to infer; a network takes the same time for any image.
NUM_INFERRED = 256


class Limit:
    """The limit, round by round.

    Args:
        decode: Images/s of decoding and resizing, one per round.
        infer: Images/s of inference, one per round, in the fastest arrangement.
        arrangement: The name of that arrangement.
    """

    def __init__(self, decode: Sequence[float], infer: Sequence[float], arrangement: str) -> None:
        self.decode, self.infer, self.arrangement = decode, infer, arrangement
        self.both = [1 / (1 / one + 1 / other) for one, other in zip(decode, infer, strict=True)]

    def share(self, speeds: Sequence[float]) -> float:
        """The share of the limit that these speeds reach."""
        return ratio_of(speeds, self.both)


def limit_ways(network: BenchmarkNetwork, paths: Sequence[Path], num_cores: int) -> dict[str, Callable[[], float]]:
    """What to measure: images/s of decoding as Onward does it, and of inference in several arrangements.

    The name of an arrangement has its batch size, and inferences at the same time × threads of each.
    """
    num_images = min(NUM_INFERRED, len(paths))
    pixels = np.stack([read_image(path, network.signature) for path in paths[:num_images]])
    images = normalise(pixels, network.signature)
    whole, single = session_of(network, num_cores), session_of(network, 1)
    ways = {DECODE: throughput_of(partial(_decode, network, paths, num_cores), len(paths))}
    for size in BATCH_SIZES:
        batches = [images[start : start + size] for start in range(0, num_images, size)]
        arrangements = {
            f"1×{num_cores} threads": partial(_infer, whole, batches, 1),
            f"{num_cores}×1 threads": partial(_infer, single, batches, num_cores),
        }
        for arrangement, run in arrangements.items():
            ways[f"{INFER}, {size}, {arrangement}"] = throughput_of(run, num_images)
    return ways


def limit_of(speeds: Mapping[str, Sequence[float]]) -> Limit:
    """The limit, from the measured speeds."""
    arrangements = [way for way in speeds if way.startswith(INFER)]
    best = max(arrangements, key=lambda way: statistics.median(speeds[way]))
    return Limit(speeds[DECODE], speeds[best], best)


def _decode(network: BenchmarkNetwork, paths: Sequence[Path], num_threads: int) -> None:
    with ThreadPoolExecutor(num_threads) as pool:
        for _ in pool.map(lambda path: read_image(path, network.signature), paths):
            pass


def _infer(session: ort.InferenceSession, batches: Sequence[NDArray[np.float32]], num_callers: int) -> None:
    name = session.get_inputs()[0].name
    with ThreadPoolExecutor(num_callers) as pool:
        for _ in pool.map(lambda batch: session.run(None, {name: batch}), batches):
            pass
