"""Optimization: the optimizer and the learning rate schedule."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, CosineAnnealingLR, LRScheduler, OneCycleLR

from onward.errors import UsageError
from onward_training.options import TrainOptions

__all__ = ["make_optimizer", "make_schedule"]

#: Share of the steps in which the learning rate of `one-cycle` rises.
WARM_UP_SHARE = 0.3


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
