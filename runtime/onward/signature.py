"""Input: one tensor that a model takes.

Signature: what goes into a classifier and what comes out.

A model carries its signature from training into the checkpoint, the ONNX metadata and the manifest, so that
nobody has to guess the pixel layout, the resize rule, mean, std or labels.

TensorSignature: what goes into a classifier that takes no image but tensors, one or several.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from onward.errors import SignatureError, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "DTYPES",
    "IMAGE",
    "INTERFACES",
    "LOGITS",
    "OUTPUTS",
    "PROBABILITIES",
    "AnySignature",
    "Input",
    "Preprocess",
    "Signature",
    "TensorSignature",
    "check_labels",
    "classes_by_name",
    "describe_outputs",
    "of_images",
    "signature_from_json",
]


DTYPES = ("float32", "int64", "int32", "uint8", "bool")


@dataclass(frozen=True)
class Input:
    """One tensor that a model takes.

    Args:
        name: Of the input, in every artifact.
        dtype: Of `DTYPES`.
        shape: Of one sample, without the batch; None where any size is taken.
        range: The smallest and the largest value that it is meant for, e.g. (0, 999) for the rows of an embedding.
            Without one, numbers for the gate are drawn from a standard normal, integers from 0 and 1.

    Raises:
        SignatureError: The dtype is unknown, a side is empty, or the range is upside down.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise SignatureError(f"{self.name!r} is no name for an input; expected letters, digits and _.")
        if self.dtype not in DTYPES:
            raise SignatureError(f"input {self.name!r} is {self.dtype!r}; expected one of {', '.join(DTYPES)}.")
        if any(size is not None and size < 1 for size in self.shape):
            raise SignatureError(f"input {self.name!r} has shape {self.shape}, with an empty side.")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise SignatureError(f"input {self.name!r} has the range {self.range}, expected the smaller value first.")

    @property
    def described_shape(self) -> str:
        """`(batch, 28, 28, 1)`."""
        return f"({', '.join(['batch', *('any' if size is None else str(size) for size in self.shape)])})"

    def draw(self, count: int, generator: np.random.Generator) -> NDArray[Any]:
        """Random values, `(count, *shape)`; a side of any size is 8."""
        shape = (count, *(8 if size is None else size for size in self.shape))
        if self.dtype == "float32":
            if self.range is None:
                return generator.standard_normal(shape, "float32")
            return generator.uniform(*self.range, shape).astype("float32")
        low, high = self.range or ((0, 255) if self.dtype == "uint8" else (0, 1))
        return generator.integers(int(low), int(high), shape, endpoint=True).astype(self.dtype)

    def to_json(self) -> dict[str, Any]:
        """The one JSON form; `Input.from_json(item.to_json()) == item`."""
        shape = ["batch", *("any" if size is None else size for size in self.shape)]
        return {
            "name": self.name,
            "dtype": self.dtype,
            "shape": shape,
            "range": None if self.range is None else list(self.range),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Input:
        """Read the JSON form.

        Raises:
            KeyError, TypeError, ValueError: A part is missing or of another kind.
            SignatureError: The parts do not fit.
        """
        shape = tuple(None if size == "any" else int(size) for size in document["shape"][1:])
        ends = document["range"]
        return cls(str(document["name"]), str(document["dtype"]), shape, ends and (ends[0], ends[1]))


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


@dataclass(frozen=True)
class TensorSignature:
    """Tensors in, logits and probabilities out; nothing is prepared or normalised by Onward.

    Args:
        inputs: In the order in which the network's `forward` takes them.
        labels: One per class, in the order of the logits.

    Raises:
        SignatureError: The parts do not fit together.
    """

    inputs: tuple[Input, ...]
    labels: tuple[str, ...]

    def __post_init__(self) -> None:
        names = [item.name for item in self.inputs]
        if not names or len(set(names)) != len(names) or set(names) & set(OUTPUTS):
            raise SignatureError(f"inputs {names}: expected at least one, each name once, none of {OUTPUTS}.")
        check_labels(self.labels)

    @property
    def num_classes(self) -> int:
        """How many classes, and so the width of the outputs."""
        return len(self.labels)

    def to_json(self) -> dict[str, Any]:
        """The one JSON form; `signature_from_json(signature.to_json()) == signature`."""
        return {
            "inputs": [item.to_json() for item in self.inputs],
            "outputs": describe_outputs(self.num_classes),
            "labels": list(self.labels),
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> TensorSignature:
        """Read the JSON form.

        Raises:
            SignatureError: A part is missing or does not fit.
        """
        try:
            inputs = tuple(Input.from_json(item) for item in document["inputs"])
            return cls(inputs, tuple(map(str, document["labels"])))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
            raise SignatureError(f"this is no signature: {type(error).__name__} at {error}.") from error

    def describe(self) -> str:
        """One line for people: `features float32 (batch, 13) → 3 classes`."""
        inputs = ", ".join(f"{item.name} {item.dtype} {item.described_shape}" for item in self.inputs)
        return f"{inputs} → {self.num_classes} classes"


AnySignature = Signature | TensorSignature


def signature_from_json(document: Mapping[str, Any]) -> AnySignature:
    """Read either JSON form: `input` is an image, `inputs` are tensors.

    Raises:
        SignatureError: A part is missing or does not fit.
    """
    if isinstance(document, Mapping) and "inputs" in document:
        return TensorSignature.from_json(document)
    return Signature.from_json(document)


def of_images(signature: AnySignature) -> Signature:
    """The signature, of a model that takes images.

    Raises:
        UsageError: It takes tensors.
    """
    if isinstance(signature, Signature):
        return signature
    raise UsageError(
        f"this takes images, and the model takes tensors: {signature.describe()}. "
        f"`onward.load(bundle)({{name: array}})` runs it in Python."
    )
