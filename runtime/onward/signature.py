"""Signature: what goes into a classifier and what comes out.

A model carries its signature from training into the checkpoint, the ONNX metadata and the manifest, so that
nobody has to guess the pixel layout, the resize rule, mean, std or labels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onward.errors import SignatureError
from onward.inputs import Input

__all__ = [
    "IMAGE",
    "INTERFACES",
    "LOGITS",
    "OUTPUTS",
    "PROBABILITIES",
    "Preprocess",
    "Signature",
    "check_labels",
    "classes_by_name",
    "describe_outputs",
]

IMAGE = "image"
LOGITS = "logits"
PROBABILITIES = "probabilities"
OUTPUTS = (LOGITS, PROBABILITIES)

RESIZE_RULES = ("stretch", "shorter-side")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
#: What the input `image` is: raw pixels, or the normalised planes that an app has made of them.
INTERFACES = ("pixels", "tensor")


@dataclass(frozen=True)
class Preprocess:
    """How a decoded image of any size becomes `(height, width)` pixels.

    Args:
        resize: `stretch` scales both sides to the input size; `shorter-side` scales the shorter side to
            `shorter_side_px`, keeping proportions, then crops the centre.
        shorter_side_px: Only for `shorter-side`.
        interpolation: `nearest`, `bilinear` or `bicubic`, antialiased as Pillow does it.
    """

    resize: str = "stretch"
    shorter_side_px: int | None = None
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if self.resize not in RESIZE_RULES:
            raise SignatureError(f"resize rule {self.resize!r} is unknown; expected one of {RESIZE_RULES}.")
        if self.interpolation not in INTERPOLATIONS:
            raise SignatureError(f"interpolation {self.interpolation!r} is unknown; expected one of {INTERPOLATIONS}.")
        if (self.resize == "shorter-side") != (self.shorter_side_px is not None):
            raise SignatureError("shorter_side_px is given with resize 'shorter-side', and only with it.")
        if self.shorter_side_px is not None and self.shorter_side_px < 1:
            raise SignatureError(f"shorter_side_px is {self.shorter_side_px}, expected at least 1.")


@dataclass(frozen=True)
class Signature:
    """An image in, logits and probabilities out.

    The input `image` is uint8 `(batch, height, width, channels)`, 0 to 255. The model itself computes
    `(image / 255 - mean) / std` per channel. Of interface `tensor`, the app has computed that, and the input is
    float32 `(batch, network's channels, height, width)`. The outputs `logits` and `probabilities` are float32
    `(batch, classes)`; probabilities are the softmax of the logits.

    Args:
        height: Pixels.
        width: Pixels.
        channels: 1 (grey) or 3 (RGB).
        mean: One per channel of the network, of pixels scaled to 0..1.
        std: One per channel of the network, above 0.
        labels: One per class, in the order of the logits.
        preprocess: How an image of any size becomes the input.
        repeat: 3 where grey images feed a network of three channels: the model itself repeats the one channel,
            before mean and std. Else 1.
        interface: `pixels`, or `tensor` where the app normalises.
        dynamic_size: Whether the model takes images of other sizes, too; `height` and `width` are then the size that
            images are brought to where nobody says another.

    Raises:
        SignatureError: The parts do not fit together.
    """

    height: int
    width: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...]
    preprocess: Preprocess = Preprocess()
    repeat: int = 1
    interface: str = "pixels"
    dynamic_size: bool = False

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise SignatureError(f"input size {self.height}x{self.width} has an empty side.")
        if self.channels not in (1, 3):
            raise SignatureError(f"an image has 1 or 3 channels, not {self.channels}.")
        if self.repeat != 1 and (self.channels, self.repeat) != (1, 3):
            raise SignatureError(f"{self.channels} channels repeated {self.repeat} times: only 1 can be, 3 times.")
        if len(self.mean) != self.network_channels or len(self.std) != self.network_channels:
            raise SignatureError(
                f"mean has {len(self.mean)} and std {len(self.std)} values, expected one for each of "
                f"{self.network_channels} channels."
            )
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise SignatureError(f"mean {self.mean} and std {self.std} must be finite, and std above 0.")
        if self.interface not in INTERFACES:
            raise SignatureError(f"interface {self.interface!r} is unknown; expected one of {INTERFACES}.")
        check_labels(self.labels)

    @property
    def inputs(self) -> tuple[Input, ...]:
        """The one input, as a backend takes it."""
        height, width = (None, None) if self.dynamic_size else (self.height, self.width)
        if self.interface == "tensor":
            return (Input(IMAGE, "float32", (self.network_channels, height, width)),)
        return (Input(IMAGE, "uint8", (height, width, self.channels), (0, 255)),)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """`(height, width, channels)` of one image."""
        return (self.height, self.width, self.channels)

    @property
    def network_channels(self) -> int:
        """Channels that the network takes."""
        return self.channels * self.repeat

    @property
    def num_classes(self) -> int:
        """How many classes, and so the width of the outputs."""
        return len(self.labels)

    def to_json(self) -> dict[str, Any]:
        """The one JSON form; `Signature.from_json(signature.to_json()) == signature`."""
        return {
            "input": self._input_to_json(),
            "preprocess": {
                "color": "RGB" if self.channels == 3 else "L",
                "resize": self.preprocess.resize,
                "shorter_side_px": self.preprocess.shorter_side_px,
                "interpolation": self.preprocess.interpolation,
            },
            "normalize": {
                "in_model": self.interface == "pixels",
                "repeat": self.repeat,
                "scale": "1/255",
                "mean": list(self.mean),
                "std": list(self.std),
            },
            "outputs": describe_outputs(self.num_classes),
            "labels": list(self.labels),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Signature:
        """Read the JSON form.

        Raises:
            SignatureError: A part is missing or does not fit.
        """
        try:
            taken, preprocess = document["input"], document["preprocess"]
            repeat = int(document["normalize"].get("repeat", 1))  # bundles of before it was there
            if taken["layout"] == "NCHW":
                _, channels, *size = taken["shape"]
            else:
                _, *size, channels = taken["shape"]
            height, width = taken.get("default_size", size)
            return cls(
                height=int(height),
                width=int(width),
                channels=int(channels) // (repeat if taken["layout"] == "NCHW" else 1),
                mean=tuple(map(float, document["normalize"]["mean"])),
                std=tuple(map(float, document["normalize"]["std"])),
                labels=tuple(map(str, document["labels"])),
                preprocess=Preprocess(preprocess["resize"], preprocess["shorter_side_px"], preprocess["interpolation"]),
                repeat=repeat,
                interface="tensor" if taken["layout"] == "NCHW" else "pixels",
                dynamic_size="default_size" in taken,
            )
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise SignatureError(f"this is no signature: {type(error).__name__} at {error}.") from error

    def describe(self) -> str:
        """One line for people: `uint8 (batch, 28, 28, 1) → 10 classes`."""
        return f"{self.inputs[0].dtype} {self.inputs[0].described_shape} → {self.num_classes} classes"

    def _input_to_json(self) -> dict[str, Any]:
        size = ["height", "width"] if self.dynamic_size else [self.height, self.width]
        document: dict[str, Any]
        if self.interface == "tensor":
            document = {"dtype": "float32", "layout": "NCHW", "shape": ["batch", self.network_channels, *size]}
        else:
            document = {"dtype": "uint8", "layout": "NHWC", "shape": ["batch", *size, self.channels]}
        document |= {"range": [0, 255] if self.interface == "pixels" else None}
        return {"name": IMAGE} | document | ({"default_size": list(self.image_shape[:2])} if self.dynamic_size else {})


def check_labels(labels: tuple[str, ...]) -> None:
    """At least two, each once.

    Raises:
        SignatureError: Fewer, or one twice.
    """
    if len(labels) < 2 or len(set(labels)) != len(labels):
        raise SignatureError("a classifier needs at least two labels, each once.")


def classes_by_name(labels: tuple[str, ...]) -> dict[str, int]:
    """Class index by label, and by the index itself as text; a label that reads as a number is meant as the label."""
    return {str(index): index for index in range(len(labels))} | {label: at for at, label in enumerate(labels)}


def describe_outputs(num_classes: int) -> list[dict[str, Any]]:
    """The JSON form of what every classifier gives."""
    return [{"name": name, "dtype": "float32", "shape": ["batch", num_classes]} for name in OUTPUTS]
