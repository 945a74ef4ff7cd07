"""Handmade: `onward bench` against a hand-written loop for one backend, each in new processes, alternating.

    python -m benchmarks.bench handmade --folder F

The loop is what one writes without Onward: it opens the model, warms up for half a second, and times inferences on up
to sixteen random batches. It times rounds like the benchmark's, so that a p10 latency means the same for both: on a
shared machine two medians of the same loop differ by more than the two programs do. Eight processes of each alternate,
and the ratio is that of each pair.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.bench.bundles import NETWORKS, bundle_paths
from onward.benchmarking.bench import bench
from onward.benchmarking.spec import BenchOptions, BenchSpec, Selection
from onward.cli.console import print_table, remark
from onward.statistics import p10, pair_rounds, ratio_interval

__all__ = ["compare_with_handmade"]

COMMON = """
import json, sys, time
import numpy as np
path, batch_size, shape, threads = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4])
images = [np.random.default_rng(at).integers(0, 256, (batch_size, *shape), np.uint8) for at in range(NUM)]
"""
LOOP = """
def measure_round(clock=time.perf_counter):
    taken = []
    end = clock() + 0.03
    while clock() < end or len(taken) < 2:
        image = images[len(taken) % len(images)]
        began = clock()
        run(image)
        taken.append(clock() - began)
    return float(np.percentile(taken, 10)) * 1e3

end = time.perf_counter() + 0.5
while time.perf_counter() < end:
    for image in images:
        run(image)
rounds = []
end = time.perf_counter() + 4
while len(rounds) < NUM_ROUNDS and (len(rounds) < 7 or time.perf_counter() < end):
    rounds.append(measure_round())
print(json.dumps(rounds))
"""
ONNXRUNTIME = """
import onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = threads
session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
names = [output.name for output in session.get_outputs()]
def run(image):
    return session.run(names, {"image": image})
"""
TORCHSCRIPT = """
import torch
torch.set_num_threads(threads)
module = torch.jit.freeze(torch.jit.load(path).eval())
def run(image):
    with torch.inference_mode():
        return [item.numpy() for item in module(torch.from_numpy(image))]
"""
LOOPS = {"onnxruntime": ("model.onnx", ONNXRUNTIME), "torchscript": ("model.torchscript", TORCHSCRIPT)}
NUM_PAIRS, NUM_ROUNDS = 8, 90
#: One thread: two threads that meet every few µs depend on where the host has put their cores.
THREADS = 1
Rounds = Sequence[float]
#: Networks that are also timed with TorchScript and in larger batches.
SMALL = ("classifier", "cnn")
#: Memory for inputs, as much as a sample of the benchmark uses.
POOL_BYTES = 8 << 20


def compare_with_handmade(folder: Path) -> None:
    """Measure, and print the table."""
    rows = []
    for network, path in bundle_paths(folder).items():
        for backend in LOOPS:
            for batch_size in NETWORKS[network][:2]:
                if network not in SMALL and (backend == "torchscript" or batch_size > 1):
                    continue
                remark(f"{network}, {backend}, batch {batch_size} …")
                by_hand, by_bench = [], []
                for _ in range(NUM_PAIRS):
                    by_hand.append(_by_hand(path, backend, batch_size))
                    by_bench.append(_by_bench(path, backend, batch_size))
                ratio = ratio_interval(pair_rounds(by_bench, by_hand))
                rows.append(
                    [network, backend, str(batch_size), *(f"{_mean_p10(side):.4g}" for side in (by_hand, by_bench))]
                    + [f"{ratio.value:.3f}", f"{ratio.low:.3f} – {ratio.high:.3f}"]
                )
                remark(" ".join(rows[-1]))
    print_table(["", "backend", ">batch", ">by hand ms", ">bench ms", ">ratio", ">95 %"], rows)


def _mean_p10(process_runs: Sequence[Rounds]) -> float:
    return statistics.geometric_mean(p10(rounds) for rounds in process_runs)


def _by_bench(path: Path, backend: str, batch_size: int) -> Rounds:
    spec = BenchSpec([str(path)], Selection(backends=[backend], threads=[THREADS]), with_files=False)
    options = BenchOptions(batch_sizes=(batch_size,), num_process_runs=1, num_rounds=NUM_ROUNDS, budget_s=4.0)
    (row,) = bench(spec, options).rows
    return row.rounds_ms[0]


def _by_hand(path: Path, backend: str, batch_size: int) -> Rounds:
    from onward.bundle import Bundle
    from onward.signature import of_images

    file, program = LOOPS[backend]
    shape = of_images(Bundle.open(path).signature).image_shape
    num = min(16, max(2, POOL_BYTES // (batch_size * shape[0] * shape[1] * shape[2])))
    arguments = [str(path / file), str(batch_size), json.dumps(shape), str(THREADS)]
    code = COMMON.replace("NUM", str(num)) + program + LOOP.replace("NUM_ROUNDS", str(NUM_ROUNDS))
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": str(THREADS)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [float(ms) for ms in json.loads(result.stdout)]
