"""Optimization: the loss, the optimizer and the learning rate schedule."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, OneCycleLR

from onward.errors import UsageError
from onward_training.models import logits_of
from onward_training.options import TrainOptions

__all__ = ["Loss", "make_optimizer", "make_schedule"]

#: Weight of an auxiliary classifier's loss. Source: Szegedy et al., "Going deeper with convolutions", 2014.
AUXILIARY_WEIGHT = 0.3
#: Share of the steps in which the learning rate of `one-cycle` rises.
WARM_UP_SHARE = 0.3


class Loss:
    """Cross-entropy of the logits, and of the auxiliary classifiers that some networks have in training mode.

    Args:
        label_smoothing: From 0 to below 1.
        class_weights: float32 `(classes,)`; None weighs all classes equally.
    """

    def __init__(self, label_smoothing: float = 0.0, class_weights: Tensor | None = None) -> None:
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights

    def __call__(self, output: Any, targets: Tensor) -> tuple[Tensor, Tensor]:
        """A network's output and targets, int64 `(batch,)` -> the loss, a 0-d tensor, and the logits."""
        logits = logits_of(output)
        loss = self._cross_entropy(logits, targets)
        if not isinstance(output, Tensor) and isinstance(output, Sequence):
            for auxiliary in output[1:]:
                if isinstance(auxiliary, Tensor) and auxiliary.shape == logits.shape:
                    loss = loss + AUXILIARY_WEIGHT * self._cross_entropy(auxiliary, targets)
        return loss, logits

    def _cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets, weight=self.class_weights, label_smoothing=self.label_smoothing)


def make_optimizer(network: nn.Module, options: TrainOptions) -> Optimizer:
    """The optimizer, fused, over all parameters that require a gradient.

    Raises:
        UsageError: No parameter requires a gradient.
    """
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    if not parameters:
        raise UsageError(f"{options.model} has no parameter to train: none requires a gradient.")
    rate, decay = options.learning_rate, options.weight_decay
    match options.optimizer:
        case "sgd":
            return torch.optim.SGD(parameters, rate, momentum=options.momentum, weight_decay=decay, fused=True)
        case "adamw":
            return torch.optim.AdamW(parameters, rate, weight_decay=decay, fused=True)
        case _:
            return torch.optim.Adam(parameters, rate, weight_decay=decay, fused=True)


def make_schedule(optimizer: Optimizer, options: TrainOptions, num_steps: int) -> LRScheduler:
    """The learning rate schedule, advanced once a step.

    Args:
        optimizer: The optimizer whose learning rate it sets.
        options: Name the schedule and the highest learning rate.
        num_steps: Steps of the whole run.
    """
    match options.schedule:
        case "one-cycle":
            return OneCycleLR(
                optimizer, options.learning_rate, total_steps=num_steps + 1, pct_start=WARM_UP_SHARE,
                cycle_momentum=options.momentum > 0 or options.optimizer != "sgd",
            )  # fmt: skip
        case "constant":
            return ConstantLR(optimizer, factor=1.0)
        case _:
            return CosineAnnealingLR(optimizer, num_steps)
