"""Training options, and the values that they may have. All of them are checked without importing PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from onward.errors import UsageError, did_you_mean
from onward_training.model_names import check_model_name

__all__ = [
    "AUGMENTATIONS",
    "CLASS_WEIGHTS",
    "DEVICES",
    "FINAL_ACTIVATIONS",
    "OPTIMIZERS",
    "PRECISIONS",
    "SCHEDULES",
    "NetworkSpec",
    "TrainKeywords",
    "TrainOptions",
    "check_augmentation",
    "parse_augmentation",
]

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("cosine", "constant", "one-cycle")
CLASS_WEIGHTS = ("none", "balanced")
PRECISIONS = ("float32", "bfloat16", "float16")
DEVICES = ("auto", "cpu", "cuda", "mps")
#: The values of `--final-activation`; `auto` watches a forward pass.
FINAL_ACTIVATIONS = ("auto", "logits", "log-softmax", "softmax", "sigmoid")
AUGMENTATIONS = ("flip", "crop", "resized-crop", "rotate", "color-jitter", "erase", "trivial", "randaugment")


@dataclass(frozen=True)
class TrainOptions:
    """How to train. Runs with equal options, data, machine and number of threads produce bit-identical weights.

    Args:
        model: Name of the network, see `onward_training.model_names`.
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
        augment: `none`, or names from `AUGMENTATIONS`, comma-separated.
        patience: Epochs without an improvement after which training stops; 0 for no limit.
        freeze_epochs: So many epochs at the beginning train the head only, the last layer: the rest is frozen.
        precision: Of the forward pass: `float32`, or autocast to `bfloat16` or (on CUDA) `float16`.
        seed: Of the weights, the order of the images, dropout, augmentation and the validation split.
        device: `cpu`, `cuda`, `mps`, or `auto`: the first of cuda, mps and cpu that is here.
        num_workers: Processes that decode images, if a folder is too large for memory.

    Raises:
        UsageError: A value is out of range or unknown.
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
    freeze_epochs: int = 0
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
        for name in ("weight_decay", "clip_norm", "patience", "freeze_epochs", "num_workers"):
            if not getattr(self, name) >= 0:
                raise UsageError(f"{name.replace('_', ' ')} is {getattr(self, name)}, expected at least 0.")
        for name in ("label_smoothing", "momentum"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name.replace('_', ' ')} is {getattr(self, name)}, expected from 0 to below 1.")
        for name, known in {
            "optimizer": OPTIMIZERS,
            "schedule": SCHEDULES,
            "class_weights": CLASS_WEIGHTS,
            "precision": PRECISIONS,
            "device": DEVICES,
            "final_activation": FINAL_ACTIVATIONS,
        }.items():
            _check_choice(name, getattr(self, name), known)
        check_model_name(self.model)
        parse_augmentation(self.augment)
        if self.precision == "float16" and self.device in ("cpu", "mps"):
            raise UsageError(f"--precision float16 needs --device cuda; on {self.device}, use float32 or bfloat16.")


class TrainKeywords(TypedDict, total=False):
    """The fields of `TrainOptions`, as keywords of a function."""

    model: str
    arguments: Mapping[str, Any]
    final_activation: str
    epochs: int
    batch_size: int
    learning_rate: float
    optimizer: str
    momentum: float
    weight_decay: float
    schedule: str
    label_smoothing: float
    clip_norm: float
    class_weights: str
    augment: str
    patience: int
    freeze_epochs: int
    precision: str
    seed: int
    device: str
    num_workers: int


@dataclass(frozen=True)
class NetworkSpec:
    """The network that a weights file belongs to.

    Args:
        model: Its name, see `onward_training.model_names`; needed unless the file names it.
        arguments: Its further arguments; they override those in the file.
        final_activation: `auto`, `logits`, `log-softmax`, `softmax` or `sigmoid`.
        output: Which of the returned values holds the logits: a key, an attribute or an index.
        entry: Where in the file the weights are, see `read_weights`.

    Raises:
        UsageError: The model or the final activation is unknown.
    """

    model: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    final_activation: str = "auto"
    output: str | None = None
    entry: str | None = None

    def __post_init__(self) -> None:
        _check_choice("final_activation", self.final_activation, FINAL_ACTIVATIONS)
        if self.model is not None:
            check_model_name(self.model)


def parse_augmentation(text: str) -> tuple[str, ...]:
    """Parse e.g. `flip,crop`; `none` and an empty text mean no augmentation.

    Raises:
        UsageError: A name is unknown.
    """
    if text.strip() in ("", "none"):
        return ()
    names = tuple(name.strip() for name in text.split(","))
    for name in names:
        check_augmentation(name)
    return names


def check_augmentation(name: str) -> None:
    """Check one name.

    Raises:
        UsageError: It is unknown.
    """
    if name not in AUGMENTATIONS:
        raise UsageError(
            f"augmentation {name!r} is unknown, expected none, or some of {', '.join(AUGMENTATIONS)}, joined by commas."
            f"{did_you_mean(name, AUGMENTATIONS)}"
        )


def _check_choice(field_name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise UsageError(
            f"{field_name.replace('_', ' ')} {value!r} is unknown, expected one of {', '.join(known)}."
            f"{did_you_mean(value, known)}"
        )
