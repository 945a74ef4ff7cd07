"""The Python app, or `onward.load`, beside a bare onnxruntime call: `python python_app.py app|load FOLDER [--cold]`."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH_SIZES = (1, 32)
NUM_ROUNDS, ROUND_S = 15, 0.2

Run = Callable[[Any], Any]


def main(kind: str, folder: Path, is_cold: bool) -> None:
    """Open, answer, measure."""
    opened = open_app(folder) if kind == "app" else open_bundle(folder)
    classify, run, noise_ratio, shape, model = opened
    import numpy as np

    classify(np.zeros(shape, np.uint8))
    print("first", flush=True)
    if is_cold:
        return
    import onnxruntime as ort

    session = ort.InferenceSession(str(model))
    feeds = {size: np.random.default_rng(0).integers(0, 256, (size, *shape), np.uint8) for size in BATCH_SIZES}
    rounds = {
        size: take_turns(run, lambda feed: session.run(None, {"image": feed}), feeds[size]) for size in BATCH_SIZES
    }
    seconds = {size: statistics.median(ours for ours, _ in pairs) for size, pairs in rounds.items()}
    document = {
        "latency_ms": 1e3 * seconds[1],
        "images_per_s": 32 / seconds[32],
        "over_bare": {size: statistics.median(ours / bare for ours, bare in pairs) for size, pairs in rounds.items()},
        "noise_ratio": noise_ratio(),
    }
    print(json.dumps(document))


def open_app(folder: Path) -> tuple[Run, Run, Callable[[], float], tuple[int, ...], Path]:
    """What classifies, runs ready pixels and tests itself; the shape of an image; the model."""
    sys.path.insert(0, str(folder))
    from classifier import Classifier  # type: ignore[import-not-found]

    app = Classifier(folder)
    taken = app.signature["input"]
    shape = tuple(taken.get("default_size", taken["shape"][1:3])) + (taken["shape"][3],)
    return app, app.run, lambda: float(app.self_test().noise_ratio), shape, folder / "model.onnx"


def open_bundle(folder: Path) -> tuple[Run, Run, Callable[[], float], tuple[int, ...], Path]:
    """The same of `onward.load`."""
    import onward

    model = onward.load(folder)

    def noise_ratio() -> float:
        verdict = model.verify().verdict
        assert verdict is not None
        return verdict.noise_ratio

    from onward.signature import of_images

    return model, model, noise_ratio, of_images(model.signature).image_shape, folder / "model.onnx"


def take_turns(ours: Run, bare: Run, feed: Any) -> list[list[float]]:
    """Seconds a call, of both in every round; who begins takes turns."""
    rounds = []
    for number in range(NUM_ROUNDS):
        pair = [0.0, 0.0]
        for which in ((0, 1), (1, 0))[number % 2]:
            pair[which] = seconds_per_call((ours, bare)[which], feed)
        rounds.append(pair)
    return rounds


def seconds_per_call(run: Run, feed: Any) -> float:
    """The median over a turn."""
    taken = []
    end = time.perf_counter() + ROUND_S
    while (start := time.perf_counter()) < end:
        run(feed)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), "--cold" in sys.argv)
