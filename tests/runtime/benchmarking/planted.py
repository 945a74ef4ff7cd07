"""Custom backends with one fault each, which a benchmark must report."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort

Infer = Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]


def right(model: Path, threads: int) -> Infer:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda arrays: session.run(None, dict(arrays))


def by_name(model: Path, threads: int) -> Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]:
    infer = right(model, threads)
    return lambda arrays: dict(zip(("logits", "probabilities"), infer(arrays), strict=True))


def wrong(model: Path, threads: int) -> Infer:
    """Fast, and a thousandth off."""
    infer = right(model, threads)
    return lambda arrays: [output * np.float32(1.001) for output in infer(arrays)]


def of_another_shape(model: Path, threads: int) -> Infer:
    infer = right(model, threads)
    return lambda arrays: [output[:, :-1] for output in infer(arrays)]


def one_output(model: Path, threads: int) -> Infer:
    infer = right(model, threads)
    return lambda arrays: infer(arrays)[:1]


def slower_and_slower(model: Path, threads: int) -> Infer:
    """A tenth slower with every call, up to 0.2 s: by calls, not by time, so that a slow machine sees the same."""
    infer = right(model, threads)
    calls = itertools.count()

    def run(arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        end = time.perf_counter() + min(0.2, 1e-4 * 1.1 ** min(next(calls), 100))
        while time.perf_counter() < end:
            pass
        return infer(arrays)

    return run


def leaks_threads(model: Path, threads: int) -> Infer:
    """Six threads in twenty milliseconds, however many inferences those are."""
    infer = right(model, threads)
    never = threading.Event()
    leaked = 0.0

    def run(arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        nonlocal leaked
        if (now := time.perf_counter()) - leaked > 0.02:
            leaked = now
            for _ in range(6):
                threading.Thread(target=never.wait, daemon=True).start()
        return infer(arrays)

    return run


def never_rests(model: Path, threads: int) -> Infer:
    def spin() -> None:
        while True:
            pass

    threading.Thread(target=spin, daemon=True).start()
    return right(model, threads)


def crashes(model: Path, threads: int) -> Infer:
    infer = right(model, threads)
    calls = 0

    def run(arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        nonlocal calls
        calls += 1
        if calls > 20:
            os.kill(os.getpid(), signal.SIGSEGV)
        return infer(arrays)

    return run


def leaves(model: Path, threads: int) -> Infer:
    print("the licence server does not respond", flush=True)
    os._exit(7)


def raises(model: Path, threads: int) -> Infer:
    def run(arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        raise ZeroDivisionError("of all things")

    return run


def hangs(model: Path, threads: int) -> Infer:
    return lambda arrays: time.sleep(3600)  # type: ignore[return-value]


def talks(model: Path, threads: int) -> Infer:
    """Prints to standard output, where responses go."""
    infer = right(model, threads)

    def run(arrays: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        print("hello")
        os.write(1, b"hello from C\n")
        return infer(arrays)

    return run
