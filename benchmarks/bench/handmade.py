"""Handmade: `onward bench` beside a loop written by hand for one backend, each in fresh processes, in turns.

    python -m benchmarks.bench handmade --folder F

The loop is what one writes without Onward: it opens the model, warms up for half a second, and takes the median of as
many inferences as fit in one, on up to sixteen random batches. Both run three processes a turn; a turn of the one
follows one of the other.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.bench.bundles import NETWORKS, bundle_paths
from runtime.bench.bench import Question, bench
from runtime.bench.lineup import Wish
from runtime.bench.options import Options
from runtime.console import print_table, remark
from runtime.cores import count_cores

__all__ = ["compare_with_handmade"]

COMMON = """
import json, statistics, sys, time
import numpy as np
path, batch_size, shape, threads = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3]), int(sys.argv[4])
images = [np.random.default_rng(at).integers(0, 256, (batch_size, *shape), np.uint8) for at in range(NUM)]
"""
LOOP = """
end = time.perf_counter() + 0.5
while time.perf_counter() < end:
    for image in images:
        run(image)
taken = []
end = time.perf_counter() + 1
while time.perf_counter() < end:
    for image in images:
        began = time.perf_counter()
        run(image)
        taken.append(time.perf_counter() - began)
print(statistics.median(taken) * 1e3)
"""
ONNXRUNTIME = """
import onnxruntime as ort
options = ort.SessionOptions()
options.intra_op_num_threads = threads
session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
def run(image):
    return session.run(None, {"image": image})
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
NUM_TURNS = 3
#: Networks that TorchScript is timed with, too.
SMALL = ("classifier", "cnn")
#: As much memory for inputs as a turn of the bench goes round.
POOL_BYTES = 8 << 20


def compare_with_handmade(folder: Path) -> None:
    """Measure and print the table."""
    rows = []
    for network, path in bundle_paths(folder).items():
        for backend in LOOPS:
            for batch_size in NETWORKS[network][:2]:
                if backend == "torchscript" and network not in SMALL:
                    continue
                remark(f"{network}, {backend}, batch {batch_size} …")
                ours, theirs = [], []
                for _ in range(NUM_TURNS):
                    theirs.append(statistics.median(_by_hand(path, backend, batch_size) for _ in range(3)))
                    ours.append(_by_bench(path, backend, batch_size))
                ratio = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
                rows.append(
                    [network, backend, str(batch_size), f"{statistics.median(theirs):.4g}"]
                    + [f"{statistics.median(ours):.4g}", f"{ratio:.3f}"]
                    + [f"{min(a / b for a, b in zip(ours, theirs, strict=True)):.3f}"]
                    + [f"{max(a / b for a, b in zip(ours, theirs, strict=True)):.3f}"]
                )
    print_table(["", "backend", ">batch", ">by hand ms", ">bench ms", ">ratio", ">least", ">most"], rows)


def _by_bench(path: Path, backend: str, batch_size: int) -> float:
    question = Question([str(path)], Wish(backends=[backend]), with_files=False)
    (row,) = bench(question, Options(batch_sizes=(batch_size,))).rows
    assert row.latency is not None
    return row.latency.median


def _by_hand(path: Path, backend: str, batch_size: int) -> float:
    from runtime.bundle import Bundle
    from runtime.tensor_signature import of_images

    file, program = LOOPS[backend]
    threads = str(count_cores())
    shape = of_images(Bundle.open(path).signature).image_shape
    num = min(16, max(2, POOL_BYTES // (batch_size * shape[0] * shape[1] * shape[2])))
    arguments = [str(path / file), str(batch_size), json.dumps(shape), threads]
    code = COMMON.replace("NUM", str(num)) + program + LOOP
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": threads},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(result.stdout)
