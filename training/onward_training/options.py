"""TrainOptions: how to train."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from onward.errors import UsageError
from onward_training.augmentation import parse_augmentation
from onward_training.models.final_activation import FINAL_ACTIVATIONS

__all__ = ["CLASS_WEIGHTS", "OPTIMIZERS", "PRECISIONS", "SCHEDULES", "TrainOptions"]

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("cosine", "constant", "one-cycle")
CLASS_WEIGHTS = ("none", "balanced")
PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class TrainOptions:
    """How to train. Two runs with equal options, data, machine and number of threads give equal weights.

    Args:
        model: What `onward_training.models.build` takes.
        arguments: Its further arguments.
        final_activation: What the network ends in, of `onward_training.models.FINAL_ACTIVATIONS`.
        epochs: Passes over the training images.
        batch_size: Images a step.
        learning_rate: At its highest.
        optimizer: `adam`, `adamw` or `sgd`.
        momentum: Of `sgd` only.
        weight_decay: As the optimizer understands it.
        schedule: `cosine` falls to nothing along the run, `constant` stays, `one-cycle` rises over the first 30 % of
            the steps and falls over the rest.
        label_smoothing: 0 to 1: this share of the truth is spread over all classes.
        clip_norm: The gradient is scaled down to this norm; 0 leaves it.
        class_weights: `balanced` weighs the loss of a class by the inverse of its frequency.
        augment: Names of `onward_training.augmentation`, comma-separated.
        patience: Training stops after this many epochs without a better one; 0 never.
        precision: `float32`; or `bfloat16` or `float16`, in which the forward pass is computed (autocast).
        seed: Of the weights, the order of the images, dropout and augmentation.
        device: `cpu` or `cuda`.
        num_workers: Processes that decode images of a folder too large for memory.

    Raises:
        UsageError: A value is out of range, or the device is not there.
    """

    model: str = "classifier"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    final_activation: str = "auto"
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    optimizer: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    schedule: str = "cosine"
    label_smoothing: float = 0.0
    clip_norm: float = 0.0
    class_weights: str = "none"
    augment: str = "none"
    patience: int = 0
    precision: str = "float32"
    seed: int = 0
    device: str = "cpu"
    num_workers: int = 2

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not self.learning_rate > 0:
            raise UsageError("epochs and batch size must be at least 1, and the learning rate above 0.")
        for name in ("weight_decay", "clip_norm", "patience", "num_workers"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name.replace('_', ' ')} is {getattr(self, name)}, expected at least 0.")
        for name in ("label_smoothing", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name.replace('_', ' ')} is {getattr(self, name)}, expected 0 up to below 1.")
        choices = {
            "optimizer": OPTIMIZERS,
            "schedule": SCHEDULES,
            "class_weights": CLASS_WEIGHTS,
            "precision": PRECISIONS,
            "final_activation": FINAL_ACTIVATIONS,
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise UsageError(
                    f"{name.replace('_', ' ')} {getattr(self, name)!r} is unknown; there are {', '.join(known)}."
                )
        parse_augmentation(self.augment)
        self._check_device()

    def _check_device(self) -> None:
        if self.device not in ("cpu", "cuda"):
            raise UsageError(f"device {self.device!r} is unknown; there are cpu and cuda.")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UsageError("--device cuda: PyTorch finds no CUDA device here.")
        if self.precision == "float16" and self.device == "cpu":
            raise UsageError("float16 is for --device cuda; a processor computes in float32 or bfloat16.")
