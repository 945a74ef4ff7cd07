"""Evaluator: a model classifies a labelled split; its predictions and the targets become an Evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from onward.bundle import Artifact
from onward.bundle.trust import NO_TRUST, Trust
from onward.classifier import load as load_bundle
from onward.errors import DataError, UsageError
from onward.feed import from_pixels
from onward.parity import Run
from onward.signature import Signature, of_images
from onward.tasks.classification import PROBABILITIES
from onward.tasks.task import answered
from onward_training.checkpoint import Checkpoint, Epoch
from onward_training.data import AnySplit, Dataset, load_for
from onward_training.evaluation import Evaluation
from onward_training.normalization import Normalize
from onward_training.tasks import network_task_of

__all__ = ["ModelToEvaluate", "checkpoint_runner", "evaluate"]

BATCH_SIZE = 256


@dataclass(frozen=True)
class ModelToEvaluate:
    """An opened checkpoint or bundle.

    Args:
        signature: Its inputs and labels.
        run: uint8 `(batch, height, width, channels)` -> output name -> float32 `(batch, classes)`.
        trained_on: What `--data` was in training; empty if unknown.
        history: Of a checkpoint: one entry per epoch.
        artifact: Of a bundle: the artifact that runs.
    """

    signature: Signature
    run: Run
    trained_on: str
    history: tuple[Epoch, ...] = ()
    artifact: Artifact | None = None

    @classmethod
    def from_bundle(cls, path: Path, *, artifact: str, provider: str, trust: Trust = NO_TRUST) -> ModelToEvaluate:
        """Open an artifact of a bundle.

        Raises:
            BundleError: The bundle cannot be opened.
            TrustError: The artifact can run code, and the bundle is not trusted.
        """
        classifier = load_bundle(path, artifact=artifact, provider=provider, trust=trust)
        signature = of_images(classifier.signature)
        return cls(
            signature,
            lambda images: classifier.backend.run(from_pixels(images, signature)),
            str(classifier.bundle.provenance.get("data", "")),
            artifact=classifier.artifact,
        )

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint) -> ModelToEvaluate:
        """Run a checkpoint's network in PyTorch."""
        signature = of_images(checkpoint.signature)
        return cls(signature, checkpoint_runner(checkpoint), checkpoint.data, checkpoint.history)

    def load_data(self, data: str | None, data_dir: Path | None) -> Dataset:
        """Load a data set for this model; by default the one that it was trained on.

        Raises:
            DataError: The data set cannot be read.
            UsageError: There is no `data`, and the model does not say what it was trained on; or the data set does not
                fit the model.
        """
        if not (data or self.trained_on):
            raise UsageError(
                "the model does not say what it was trained on: --data names the data set to evaluate it on."
            )
        return load_for(self.signature, data or self.trained_on, data_dir)


def evaluate(run: Run, split: AnySplit, *, on_progress: Callable[[int], None] = lambda count: None) -> Evaluation:
    """Classify every readable image of a split.

    Args:
        run: uint8 `(batch, height, width, channels)` -> output name -> float32 `(batch, classes)`: a backend's
            `run`, or `checkpoint_runner(checkpoint)`.
        split: Labelled images. Unreadable ones are left out of the evaluation.
        on_progress: Called with the number of images in each batch, readable or not: they add up to the split's length.

    Raises:
        DataError: There is no readable image.
        Refusal: No image has probabilities that are finite.
    """
    probabilities, targets, indices = [], [], []
    for at in range(0, len(split), BATCH_SIZE):
        requested = np.arange(at, min(at + BATCH_SIZE, len(split)))
        images, expected = split.read(slice(at, at + BATCH_SIZE))
        if len(expected):
            outputs = run(images)
            probabilities.append(np.where(answered(outputs)[:, None], outputs[PROBABILITIES], np.float32(np.nan)))
            targets.append(expected)
            indices.append(requested if len(expected) == len(requested) else _readable(split, requested))
        on_progress(len(requested))
    if not targets:
        raise DataError(f"none of {len(split)} images can be read, expected at least one to evaluate.")
    return Evaluation(np.concatenate(probabilities), np.concatenate(targets), np.concatenate(indices))


def checkpoint_runner(checkpoint: Checkpoint) -> Run:
    """Run a checkpoint's network in PyTorch, on raw pixels."""
    signature = of_images(checkpoint.signature)
    network, normalize, task = checkpoint.network(), Normalize(signature), network_task_of(signature)

    def run(images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        with torch.inference_mode():
            outputs = task.outputs(network(normalize(torch.tensor(images))))
            return {name: array.numpy() for name, array in zip(signature.output_names, outputs, strict=True)}

    return run


def _readable(split: AnySplit, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """The readable ones among `indices`. A batch does not say which images it left out, so each is read once more."""
    return indices[[len(split.read(indices[[place]])[1]) == 1 for place in range(len(indices))]]
