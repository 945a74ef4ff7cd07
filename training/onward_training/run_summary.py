"""Run summary: what a training run is about to do, said before its first step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from onward.errors import some_of
from onward.signature import Signature
from onward_training.data import Dataset
from onward_training.devices import other_device
from onward_training.freezing import Backbone
from onward_training.models.final_activation import probe_inputs
from onward_training.options import TrainOptions

__all__ = ["RunSummary", "count_multiply_adds", "summarise"]

MAX_CLASSES_SHOWN = 10


@dataclass(frozen=True)
class RunSummary:
    """A run before its first step.

    Args:
        labels: The classes.
        num_images: Training, validation and test images.
        split_rule: How they were split.
        signature: The network's inputs.
        proportions: What resizing does to the images' proportions; empty if nothing.
        model: The network's name.
        num_parameters: All of them.
        num_trained: Those that are trained.
        num_head: Those that are trained while the others are frozen.
        multiply_adds: Of one image; None if they could not be counted.
        device: Where it is trained.
        num_threads: Of the CPU.
        unused_device: A faster device that is here and not used; None if there is none.
        options: How it is trained.
        num_steps: In one epoch.
        chance_loss: What the loss is when the network knows no more than how frequent each class is.
    """

    labels: Sequence[str]
    num_images: tuple[int, int, int]
    split_rule: str
    signature: Signature
    proportions: str
    model: str
    num_parameters: int
    num_trained: int
    num_head: int
    multiply_adds: int | None
    device: str
    num_threads: int
    unused_device: str | None
    options: TrainOptions
    num_steps: int
    chance_loss: float

    def rows(self) -> list[tuple[str, str]]:
        """What people see: a word, and what it is."""
        train, validation, test = self.num_images
        options = self.options
        return [
            ("classes", f"{len(self.labels):,}: {some_of(list(self.labels), MAX_CLASSES_SHOWN)}"),
            ("images", f"{train:,} training, {validation:,} validation, {test:,} test: {self.split_rule}"),
            ("input", self._input()),
            ("network", self._network()),
            (
                "run",
                f"epochs {options.epochs}, each of {self.num_steps:,} steps of {options.batch_size} images, "
                f"{options.optimizer}, learning rate {options.learning_rate:g} ({options.schedule}), augmentation "
                f"{options.augment}",
            ),
            ("device", self._device()),
        ]

    def to_json(self) -> dict[str, Any]:
        """As in `train --json`."""
        names = ("training", "validation", "test")
        return {
            "num_classes": len(self.labels),
            "num_images": dict(zip(names, self.num_images, strict=True)),
            "split_rule": self.split_rule,
            "proportions": self.proportions,
            "num_parameters": self.num_parameters,
            "num_trained_parameters": self.num_trained,
            "num_head_parameters": self.num_head,
            "multiply_adds": self.multiply_adds,
            "device": self.device,
            "num_threads": self.num_threads,
            "steps_per_epoch": self.num_steps,
            "chance_loss": self.chance_loss,
        }

    def _input(self) -> str:
        signature = self.signature
        color = "RGB" if signature.channels == 3 else "grey" if signature.repeat == 1 else "grey, repeated 3 times"
        normal = f"mean {_numbers(signature.mean)}, std {_numbers(signature.std)}"
        said = f"; {self.proportions}" if self.proportions else ""
        return f"{signature.height}×{signature.width} {color}, {signature.preprocess.describe()}, {normal}{said}"

    def _network(self) -> str:
        counted = "" if self.multiply_adds is None else f", {_short(self.multiply_adds)} multiply-adds an image"
        trained = "" if self.num_trained == self.num_parameters else f", of which {self.num_trained:,} are trained"
        frozen = min(self.options.freeze_epochs, self.options.epochs)
        first = "the first epoch trains" if frozen == 1 else f"the first {frozen} epochs train"
        head = f"; {first} the head only, {self.num_head:,} parameters" if frozen else ""
        return f"{self.model}, {self.num_parameters:,} parameters{trained}{counted}{head}"

    def _device(self) -> str:
        threads = f", threads {self.num_threads}" if self.device == "cpu" else ""
        return f"{self.device}{threads}, {self.options.precision}"


def summarise(
    dataset: Dataset, options: TrainOptions, network: nn.Module, signature: Signature, num_steps: int
) -> RunSummary:
    """Describe a run of a network that is on its device already; its weights and the random numbers do not change."""
    parameters = list(network.parameters())
    num_trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    return RunSummary(
        labels=signature.labels,
        num_images=(len(dataset.train), len(dataset.validation), len(dataset.test)),
        split_rule=dataset.split_rule or "as given",
        signature=signature,
        proportions=dataset.proportions,
        model=options.model,
        num_parameters=sum(parameter.numel() for parameter in parameters),
        num_trained=num_trained,
        num_head=num_trained - sum(parameter.numel() for parameter in Backbone(network).parameters),
        multiply_adds=count_multiply_adds(network, signature, options.device),
        device=options.device,
        num_threads=torch.get_num_threads(),
        unused_device=other_device(options.device),
        options=options,
        num_steps=num_steps,
        chance_loss=_chance_loss(dataset, options),
    )


def count_multiply_adds(network: nn.Module, signature: Signature, device: str) -> int | None:
    """Of linear layers, convolutions and attention, for one image; None if the network cannot be counted.

    Source: torch, `torch.utils.flop_counter`, which counts a multiply-add as two operations.
    """
    was_training = network.training
    network.eval()
    try:
        inputs = [item.to(device) for item in probe_inputs(signature, 2)]
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            network(*inputs)
        return int(counter.get_total_flops()) // (2 * len(inputs[0])) or None
    except Exception:  # user code can raise anything; the number is only shown
        return None
    finally:
        network.train(was_training)


def _chance_loss(dataset: Dataset, options: TrainOptions) -> float:
    """Cross-entropy of guessing: ln(classes), or less if some classes are more frequent than others."""
    num_classes = dataset.signature.num_classes
    if options.class_weights == "balanced":
        return math.log(num_classes)
    counts = np.bincount(dataset.train.targets, minlength=num_classes)
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def _short(count: int) -> str:
    for factor, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= factor:
            return f"{count / factor:.3g} {unit}"
    return str(count)


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
