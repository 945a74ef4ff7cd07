"""TensorSignature: what goes into a classifier that takes no image but tensors, one or several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from onward.errors import SignatureError, UsageError
from onward.inputs import Input
from onward.signature import OUTPUTS, Signature, check_labels, describe_outputs

__all__ = ["AnySignature", "TensorSignature", "of_images", "signature_from_json"]


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
