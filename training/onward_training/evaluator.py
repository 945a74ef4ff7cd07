"""Evaluator: a model classifies a labelled split, and its predictions become an Evaluation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from onward.errors import DataError
from onward.parity import Run
from onward.signature import of_images
from onward.tasks.classification import LOGITS, PROBABILITIES
from onward_training.checkpoint import Checkpoint
from onward_training.data import AnySplit
from onward_training.evaluation import Evaluation
from onward_training.normalization import Normalize

__all__ = ["checkpoint_runner", "evaluate"]

BATCH_SIZE = 256


def evaluate(run: Run, split: AnySplit, *, on_progress: Callable[[int], None] = lambda count: None) -> Evaluation:
    """Classify every image of a split that can be read.

    Args:
        run: uint8 `(batch, height, width, channels)` -> output name -> float32 `(batch, classes)`: a backend's
            `run`, or that of `checkpoint_runner`.
        split: Labelled images; those that it cannot read are left out of every figure.
        on_progress: Called with the number of images in each batch, read or not: they add up to the split's length.

    Raises:
        DataError: There is no image.
        Refusal: A probability is NaN or infinite.
    """
    probabilities, targets, indices = [], [], []
    for at in range(0, len(split), BATCH_SIZE):
        asked = np.arange(at, min(at + BATCH_SIZE, len(split)))
        images, expected = split.read(slice(at, at + BATCH_SIZE))
        if len(expected):
            probabilities.append(run(images)[PROBABILITIES])
            targets.append(expected)
            indices.append(asked if len(expected) == len(asked) else _readable(split, asked))
        on_progress(len(asked))
    if not targets:
        raise DataError(f"of {len(split)} images none can be read, expected at least one to evaluate.")
    return Evaluation(np.concatenate(probabilities), np.concatenate(targets), np.concatenate(indices))


def _readable(split: AnySplit, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of the images that can be read: a batch does not say which it left out, so each is read once more."""
    return indices[[len(split.read(indices[[place]])[1]) == 1 for place in range(len(indices))]]


def checkpoint_runner(checkpoint: Checkpoint) -> Run:
    """A checkpoint's network in PyTorch, on raw pixels."""
    network, normalize = checkpoint.network(), Normalize(of_images(checkpoint.signature))

    def run(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        with torch.inference_mode():
            logits = network(normalize(torch.tensor(images)))
            return {LOGITS: logits.numpy(), PROBABILITIES: torch.softmax(logits, 1).numpy()}

    return run
