"""Signature: what goes into a model and what comes out.

A model carries its signature from training into the checkpoint, the ONNX metadata and the manifest, so that nobody has
to guess the pixel layout, the resize rule, mean, std, labels or what an output means.

- `Input` and `Output` are one tensor each.
- `Signature` is for a model that takes images, `TensorSignature` for one that takes any other tensors.
- `task` names what the outputs are for. What a task makes of them is in `onward.tasks`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from onward.document import Document
from onward.errors import SignatureError, UsageError
from onward.preprocess import STRETCH, Preprocess
from onward.tensors import ANY, BATCH, CLASSES, DTYPES, Input, Output, describe_shape

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "CLASSES",
    "CLASSIFICATION",
    "CLASSIFICATION_OUTPUTS",
    "DTYPES",
    "IMAGE",
    "INTERFACES",
    "AnySignature",
    "Input",
    "Output",
    "Preprocess",
    "Signature",
    "TensorSignature",
    "of_images",
    "signature_from_json",
]

#: What the input `image` is: raw pixels, or the normalised planes that an app has made of them.
INTERFACES = ("pixels", "tensor")
#: The input of a model that takes images.
IMAGE = "image"

CLASSIFICATION = "classification"
#: What a classifier gives. A signature has these outputs where it says nothing else, as in every bundle of format 1.
CLASSIFICATION_OUTPUTS = (
    Output("logits", "float32", (CLASSES,), "logits"),
    Output("probabilities", "float32", (CLASSES,), "probabilities"),
)


class _Results:
    """What both signatures say of a model's results, and how both are read."""

    labels: tuple[str, ...]
    outputs: tuple[Output, ...]
    task: str

    @classmethod
    def from_json(cls, document: Mapping[str, Any] | Document) -> Self:
        """Read the JSON form.

        Raises:
            SignatureError: A part is missing or does not fit; of a `Document` that document's error.
        """
        return cls._read(_document(document))

    @classmethod
    def _read(cls, document: Document) -> Self:
        raise NotImplementedError

    @property
    def num_classes(self) -> int:
        """How many labels there are: the size of the dimension `classes`."""
        return len(self.labels)

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs, in the model's order."""
        return tuple(output.name for output in self.outputs)

    def sizes(self, output: Output) -> tuple[int | None, ...]:
        """The sizes of one sample of an output; None where any may come."""
        sizes = (self.num_classes if dim == CLASSES else dim for dim in output.dims)
        return tuple(size if isinstance(size, int) else None for size in sizes)

    def _check_results(self, inputs: Sequence[Input]) -> None:
        names = [item.name for item in inputs]
        if not names or len(set(names)) != len(names) or set(names) & set(self.output_names):
            raise SignatureError(
                f"inputs {names}: expected at least one, each name once, none of the outputs' {self.output_names}."
            )
        if not self.outputs or len(set(self.output_names)) != len(self.outputs):
            raise SignatureError(f"outputs {self.output_names}: expected at least one, each name once.")
        has_classes = any(CLASSES in output.dims for output in self.outputs)
        if len(set(self.labels)) != len(self.labels) or (has_classes and len(self.labels) < 2):
            raise SignatureError(
                f"{len(self.labels)} labels, {len(set(self.labels))} different ones: a classifier needs at least two "
                f"labels, each once."
            )
        if broken := [label for label in self.labels if not _is_unicode(label)]:
            raise SignatureError(
                f"the label {broken[0]!r} has characters that UTF-8 cannot write: rename it, or its folder."
            )
        if not self.task:
            raise SignatureError("the task has no name, expected a word such as classification.")

    def _results_to_json(self) -> dict[str, Any]:
        return {
            "outputs": [self._output_to_json(output) for output in self.outputs],
            "labels": list(self.labels),
            "task": self.task,
        }

    def _output_to_json(self, output: Output) -> dict[str, Any]:
        dims = [ANY if dim is None else dim for dim in output.dims]
        return {
            "name": output.name,
            "dtype": output.dtype,
            "shape": [BATCH, *(self.num_classes if dim == CLASSES else dim for dim in dims)],
            "dims": dims,
            "meaning": output.meaning,
        }

    def _describe(self, inputs: str) -> str:
        results = [f"{self.num_classes} classes"] if self.labels else []
        for output in self.outputs if not self.labels else ():
            results.append(f"{output.name} {output.dtype} {describe_shape(output.dims)}")
        return f"{inputs} → {', '.join(results)}"


@dataclass(frozen=True)
class Signature(_Results):
    """An image in; of a classifier, logits and probabilities out.

    The input `image` is uint8 `(batch, height, width, channels)`, 0 to 255. The model itself computes
    `(image / 255 - mean) / std` per channel. With the interface `tensor` the app computes that, and the input is
    float32 `(batch, network's channels, height, width)`.

    Args:
        height: Pixels.
        width: Pixels.
        channels: 1 (grey) or 3 (RGB).
        mean: One per channel of the network, of pixels scaled to 0..1.
        std: One per channel of the network, above 0.
        labels: One per class, in the order of the outputs' dimension `classes`.
        preprocess: How an image of any size becomes the input.
        repeat: 3 where grey images feed a network of three channels: the model itself repeats the one channel,
            before mean and std. Else 1.
        interface: `pixels`, or `tensor` where the app normalises.
        dynamic_size: Whether the model takes images of other sizes, too. Images are then brought to `height` and
            `width` unless another size is asked for.
        outputs: In the order in which the model gives them.
        task: What the outputs are for; a key of `onward.tasks.TASKS`.

    Raises:
        SignatureError: The parts do not fit together.
    """

    height: int
    width: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...] = ()
    preprocess: Preprocess = STRETCH
    repeat: int = 1
    interface: str = "pixels"
    dynamic_size: bool = False
    outputs: tuple[Output, ...] = CLASSIFICATION_OUTPUTS
    task: str = CLASSIFICATION

    def __post_init__(self) -> None:
        if min(self.height, self.width) < 1:
            raise SignatureError(f"input size {self.height}x{self.width} has an empty side.")
        if self.channels not in (1, 3):
            raise SignatureError(f"an image has 1 or 3 channels, not {self.channels}.")
        if self.repeat != 1 and (self.channels, self.repeat) != (1, 3):
            raise SignatureError(
                f"{self.channels} channels are repeated {self.repeat} times, expected 1 channel repeated 3 times."
            )
        if len(self.mean) != self.network_channels or len(self.std) != self.network_channels:
            raise SignatureError(
                f"mean has {len(self.mean)} and std {len(self.std)} values, expected one for each of "
                f"{self.network_channels} channels."
            )
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise SignatureError(f"mean {self.mean} and std {self.std} must be finite, and std above 0.")
        if self.interface not in INTERFACES:
            raise SignatureError(f"interface {self.interface!r} is unknown; expected one of {INTERFACES}.")
        self._check_results(self.inputs)

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
        """How many channels the network takes."""
        return self.channels * self.repeat

    def with_exif(self, rule: str | None) -> Signature:
        """The same with another rule for the EXIF orientation, see `Preprocess.with_exif`."""
        return replace(self, preprocess=self.preprocess.with_exif(rule))

    def describe(self) -> str:
        """One line for people: `uint8 (batch, 28, 28, 1) → 10 classes`."""
        return self._describe(f"{self.inputs[0].dtype} {self.inputs[0].described_shape}")

    def to_json(self) -> dict[str, Any]:
        """The one JSON form; `Signature.from_json(signature.to_json()) == signature`."""
        return {
            "input": self._input_to_json(),
            "preprocess": {
                "color": "RGB" if self.channels == 3 else "L",
                "resize": self.preprocess.resize,
                "shorter_side_px": self.preprocess.shorter_side_px,
                "interpolation": self.preprocess.interpolation,
                "exif": self.preprocess.exif,
            },
            "normalize": {
                "in_model": self.interface == "pixels",
                "repeat": self.repeat,
                "scale": "1/255",
                "mean": list(self.mean),
                "std": list(self.std),
            },
        } | self._results_to_json()

    @classmethod
    def _read(cls, document: Document) -> Self:
        taken, normalize = document["input"], document["normalize"]
        has_planes = taken["layout"].read(str) == "NCHW"
        default_size = taken.get("default_size")
        _, *sizes = taken["shape"].read(tuple[str, int | str, int | str, int | str])
        channels = sizes.pop(0 if has_planes else 2)
        height, width = default_size.read(tuple[int, int]) if default_size else sizes
        if not (isinstance(height, int) and isinstance(width, int) and isinstance(channels, int)):
            taken["shape"].refuse("whole numbers; `default_size` gives the sides that have a name here")
        repeat = normalize.get("repeat")  # the first bundles do not have it
        num_repeats = repeat.read(int) if repeat else 1
        if num_repeats < 1:
            normalize["repeat"].refuse("1 or 3")
        return document.build(
            cls,
            height=height,
            width=width,
            channels=channels // (num_repeats if has_planes else 1),
            mean=normalize["mean"].read(tuple[float, ...]),
            std=normalize["std"].read(tuple[float, ...]),
            preprocess=document["preprocess"].read(Preprocess),
            repeat=num_repeats,
            interface="tensor" if has_planes else "pixels",
            dynamic_size=default_size is not None,
            **_read_results(document),
        )

    def _input_to_json(self) -> dict[str, Any]:
        size = ["height", "width"] if self.dynamic_size else [self.height, self.width]
        document: dict[str, Any]
        if self.interface == "tensor":
            document = {"dtype": "float32", "layout": "NCHW", "shape": [BATCH, self.network_channels, *size]}
        else:
            document = {"dtype": "uint8", "layout": "NHWC", "shape": [BATCH, *size, self.channels]}
        document |= {"range": [0, 255] if self.interface == "pixels" else None}
        return {"name": IMAGE} | document | ({"default_size": list(self.image_shape[:2])} if self.dynamic_size else {})


@dataclass(frozen=True)
class TensorSignature(_Results):
    """Tensors in; of a classifier, logits and probabilities out. Onward prepares and normalises nothing.

    Args:
        inputs: In the order in which the network's `forward` takes them.
        labels: One per class, in the order of the outputs' dimension `classes`.
        outputs: In the order in which the model gives them.
        task: What the outputs are for; a key of `onward.tasks.TASKS`.

    Raises:
        SignatureError: The parts do not fit together.
    """

    inputs: tuple[Input, ...]
    labels: tuple[str, ...] = ()
    outputs: tuple[Output, ...] = CLASSIFICATION_OUTPUTS
    task: str = CLASSIFICATION

    def __post_init__(self) -> None:
        self._check_results(self.inputs)

    def describe(self) -> str:
        """One line for people: `features float32 (batch, 13) → 3 classes`."""
        return self._describe(", ".join(f"{item.name} {item.dtype} {item.described_shape}" for item in self.inputs))

    def to_json(self) -> dict[str, Any]:
        """The one JSON form; `signature_from_json(signature.to_json()) == signature`."""
        return {"inputs": [item.to_json() for item in self.inputs]} | self._results_to_json()

    @classmethod
    def _read(cls, document: Document) -> Self:
        inputs = document["inputs"].read(tuple[Input, ...])
        return document.build(cls, inputs=inputs, **_read_results(document))


AnySignature = Signature | TensorSignature


def signature_from_json(document: Mapping[str, Any] | Document) -> AnySignature:
    """Read either JSON form: `input` is an image, `inputs` are tensors.

    Raises:
        SignatureError: A part is missing or does not fit; of a `Document` that document's error.
    """
    document = _document(document)
    return (TensorSignature if document.get("inputs") else Signature).from_json(document)


def of_images(signature: AnySignature) -> Signature:
    """The signature, of a model that takes images.

    Raises:
        UsageError: It takes tensors.
    """
    if isinstance(signature, Signature):
        return signature
    raise UsageError(
        f"this works with images, but the model takes tensors: {signature.describe()}. "
        f"`onward.load(bundle)({{name: array}})` runs it in Python."
    )


def _document(document: Mapping[str, Any] | Document) -> Document:
    return Document.of(document, "the signature", SignatureError)


def _is_unicode(text: str) -> bool:
    """Whether it has no half of a surrogate pair, as the name of a folder that is not UTF-8 has."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _read_results(document: Document) -> dict[str, Any]:
    labels = document["labels"].read(tuple[str, ...])
    task = document.get("task")
    if task is None:  # before there were tasks, every model was a classifier
        return {"labels": labels}
    return {"labels": labels, "outputs": document["outputs"].read(tuple[Output, ...]), "task": task.read(str)}
