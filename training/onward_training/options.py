"""Training options, and the values that they may have."""

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
    """How to train. Runs with equal options, data, machine and number of threads produce bit-identical weights.

    Args:
        model: Name of the network, see `onward_training.models`.
        arguments: Further arguments of the network, e.g. `{"hidden": [512, 256]}`.
        final_activation: `auto`, `logits`, `log-softmax`, `softmax` or `sigmoid`.
        epochs: Passes over the training images.
        batch_size: Images per step.
        learning_rate: The highest value of the schedule.
        optimizer: `adam`, `adamw` or `sgd`.
        momentum: For `sgd` only.
        weight_decay: As PyTorch's optimizer defines it.
        schedule: `cosine` falls to zero over the run, `constant` stays, `one-cycle` rises over the first 30 % of the
            steps and falls over the rest.
        label_smoothing: Share of each target's probability that is spread over all classes, from 0 to below 1.
        clip_norm: Largest norm of the gradient; 0 for no limit.
        class_weights: `none`; or `balanced`, which weighs the loss of each class by the inverse of its frequency.
        augment: `none`, or names from `onward_training.augmentation.NAMES`, comma-separated.
        patience: Epochs without an improvement after which training stops; 0 for no limit.
        precision: Of the forward pass: `float32`, or autocast to `bfloat16` or (on CUDA) `float16`.
        seed: Of the weights, the order of the images, dropout, augmentation and the validation split.
        device: `cpu` or `cuda`.
        num_workers: Processes that decode images, if a folder is too large for memory.

    Raises:
        UsageError: A value is out of range, or the device is missing.
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
            raise UsageError(
                f"epochs is {self.epochs}, batch size {self.batch_size}, learning rate {self.learning_rate}; expected "
                f"at least 1, at least 1 and above 0."
            )
        for name in ("weight_decay", "clip_norm", "patience", "num_workers"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name.replace('_', ' ')} is {getattr(self, name)}, expected at least 0.")
        for name in ("label_smoothing", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name.replace('_', ' ')} is {getattr(self, name)}, expected from 0 to below 1.")
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
                    f"{name.replace('_', ' ')} {getattr(self, name)!r} is unknown, expected one of {', '.join(known)}."
                )
        parse_augmentation(self.augment)
        self._check_device()

    def _check_device(self) -> None:
        if self.device not in ("cpu", "cuda"):
            raise UsageError(f"device {self.device!r} is unknown, expected cpu or cuda.")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UsageError("--device cuda: PyTorch finds no CUDA device here.")
        if self.precision == "float16" and self.device == "cpu":
            raise UsageError("--precision float16 needs --device cuda; on a CPU, use float32 or bfloat16.")
