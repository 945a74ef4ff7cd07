"""What onnxruntime's busy waiting gains on a quiet machine and costs on a busy one.

    python -m benchmarks.spin --bundle artifacts/demo/digits

Processes with every core for each inference classify as fast as they can: one alone, and as many as there are cores. In
rounds A B A B, A with `spin=True` and B with `spin=False`; printed is the median of the ratios of images/s, A over B.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import numpy as np

import onward
from onward.host.cpu import count_cores, find_processor

SECONDS = 1.0


def main() -> None:
    """Measure and print one line for each batch size and number of processes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch-sizes", default="1,32")
    chosen = parser.parse_args()
    print(f"{find_processor().model}, {count_cores()} cores; images/s, spin over no spin, median of {chosen.rounds}")
    for batch_size in map(int, chosen.batch_sizes.split(",")):
        for num_processes in (1, count_cores()):
            pairs = [
                [_images_per_s(chosen.bundle, batch_size, num_processes, spin=spin) for spin in (True, False)]
                for _ in range(chosen.rounds)
            ]
            ratios = sorted(first / second for first, second in pairs)
            print(
                f"batch {batch_size}, {num_processes} processes: {statistics.median(ratios):.2f} "
                f"({ratios[0]:.2f} to {ratios[-1]:.2f})",
                flush=True,
            )


def _images_per_s(bundle: Path, batch_size: int, num_processes: int, *, spin: bool) -> float:
    context = multiprocessing.get_context("spawn")
    start, results = context.Barrier(num_processes), context.SimpleQueue()
    processes = [
        context.Process(target=_work, args=(bundle, batch_size, spin, start, results)) for _ in range(num_processes)
    ]
    for process in processes:
        process.start()
    total = sum(results.get() for _ in processes)
    for process in processes:
        process.join()
    return float(total)


def _work(bundle: Path, batch_size: int, spin: bool, start: Barrier, results: Any) -> None:
    with onward.load(bundle, spin=spin) as classifier:
        images = np.zeros((batch_size, *(size or 1 for size in classifier.signature.inputs[0].shape)), np.uint8)
        for _ in range(20):
            classifier.backend.run(images)
        start.wait()
        count, began = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - began) < SECONDS:
            classifier.backend.run(images)
            count += batch_size
        results.put(count / elapsed)


if __name__ == "__main__":
    main()
