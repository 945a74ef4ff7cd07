"""Training: Onward's `train` on the card in each precision, and whether repeated and resumed runs give the same bits.

Two networks: the CNN on the digits, which says what a precision loses; ResNet-18 on random images of 64 pixels, which
says what it saves.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from benchmarks.gpu.section import Row, Setting, attempt
from onward_training.checkpoint import Checkpoint
from onward_training.data import Dataset, Split, load
from onward_training.evaluator import checkpoint_runner, evaluate
from onward_training.loop import train
from onward_training.options import TrainOptions
from onward_training.run_folder import RunFolder

__all__ = ["run"]


def run(setting: Setting) -> Iterator[Row]:
    precisions = ("float32", "bfloat16", "float16") if setting.device == "cuda" else ("float32", "bfloat16")
    digits = load("digits")
    for precision in precisions:
        options = TrainOptions(
            model="cnn", epochs=1 if setting.quick else 15, batch_size=128, precision=precision, device=setting.device
        )
        yield attempt({"network": "cnn", "precision": precision}, partial(_accuracy, digits, options))
    for deterministic in (False, True):
        for precision in precisions:
            options = TrainOptions(model="cnn", epochs=2, batch_size=128, precision=precision, device=setting.device)
            base = {"network": "cnn", "precision": precision, "deterministic": deterministic}
            yield attempt(base, partial(_resume, digits, options, deterministic, setting))
    images = _random_images(setting)
    for precision in precisions:
        model = "cnn" if setting.quick else "torchvision:resnet18"
        options = TrainOptions(model=model, epochs=2, batch_size=256, precision=precision, device=setting.device)
        yield attempt({"network": model, "precision": precision, "timed": True}, partial(_speed, images, options))


def _accuracy(dataset: Dataset, options: TrainOptions) -> Row:
    checkpoint = train(dataset, options)
    accuracy = evaluate(checkpoint_runner(checkpoint), dataset.test).accuracy
    return {"accuracy": accuracy, "num_test": len(dataset.test), "epochs": options.epochs}


def _resume(dataset: Dataset, options: TrainOptions, deterministic: bool, setting: Setting) -> Row:
    """Train twice, and a third time with a stop in the second epoch."""
    with _algorithms(deterministic):
        whole, again = train(dataset, options), train(dataset, options)
        folder = setting.work / "resume"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        run_folder, steps = RunFolder(folder / "run.pt"), [0]
        num_steps = len(dataset.train) // options.batch_size + 4

        def should_stop() -> bool:
            steps[0] += 1
            return steps[0] == num_steps

        train(dataset, options, run_folder=run_folder, should_stop=should_stop)
        found = run_folder.find()
        assert found is not None
        resumed = train(dataset, options, run_folder=run_folder, resume_from=found)
    return {
        "stopped_at": f"epoch {len(found[0].history) + 1}, step {found[0].progress['step']}",
        "two_runs_equal": _equal(whole, again),
        "resumed_equal": _equal(whole, resumed),
        "same_losses": _losses(whole) == _losses(resumed),
    }


@contextmanager
def _algorithms(deterministic: bool) -> Iterator[None]:
    """Source: PyTorch, `torch.use_deterministic_algorithms`."""
    torch.use_deterministic_algorithms(deterministic)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


def _equal(one: Checkpoint, other: Checkpoint) -> bool:
    return all(torch.equal(one.state_dict[name], other.state_dict[name]) for name in one.state_dict)


def _losses(checkpoint: Checkpoint) -> list[float]:
    return [epoch.train_loss for epoch in checkpoint.history]


def _speed(dataset: Dataset, options: TrainOptions) -> Row:
    began = time.perf_counter()
    history = train(dataset, options).history
    return {
        "images_s": len(dataset.train) / history[-1].elapsed_s,
        "batch": options.batch_size,
        "num_images": len(dataset.train),
        "seconds": time.perf_counter() - began,
    }


def _random_images(setting: Setting) -> Dataset:
    digits = load("digits")
    count, side, channels = (256, 8, 1) if setting.quick else (16384, 64, 3)
    return _dataset(digits, count, side, channels)


def _dataset(like: Dataset, count: int, side: int, channels: int) -> Dataset:
    rng = np.random.default_rng(0)

    def split(number: int) -> Split:
        images = rng.integers(0, 256, (number, side, side, channels), np.uint8)
        return Split(images, rng.integers(0, 10, number))

    values = (0.5,) * channels
    signature = replace(like.signature, height=side, width=side, channels=channels, mean=values, std=values)
    return replace(like, train=split(count), validation=split(256), test=split(256), signature=signature)
