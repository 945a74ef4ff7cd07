"""Signature options: the options of `onward export` that describe inputs and labels, as a signature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from onward.errors import SignatureError, UsageError
from onward.signature import DTYPES, INTERFACES, AnySignature, Input, Signature, TensorSignature

__all__ = ["apply_interface", "read_labels", "tensor_signature"]


def tensor_signature(inputs: Sequence[str], labels: str | None) -> TensorSignature | None:
    """The signature of a model that takes tensors, or None where `--input` names none.

    Args:
        inputs: Each is `NAME:DTYPE:SHAPE` or `NAME:DTYPE:SHAPE:LOW..HIGH`. The shape leaves out the batch and joins
            its sizes with `x`; `any` is a free size: `features:float32:13`, `ids:int64:any:0..999`. Or `pixels`,
            `tensor`.
        labels: A file with one label a line, or labels separated by commas.

    Raises:
        UsageError: An input cannot be read, or the labels are missing.
    """
    described = [text for text in inputs if text not in INTERFACES]
    if not described:
        return None
    if len(described) < len(inputs):
        raise UsageError(
            f"--input is {' and '.join(inputs)}; expected either `pixels` or `tensor` for an image, or named tensors "
            "only."
        )
    if labels is None:
        raise UsageError(
            "--labels is missing; a model that takes tensors needs its classes: separated by commas, or a file."
        )
    try:
        return TensorSignature(tuple(map(_input, described)), read_labels(labels))
    except SignatureError as error:
        raise UsageError(str(error)) from error


def read_labels(text: str) -> tuple[str, ...]:
    """The labels in a file with one a line, or in a text with commas between them.

    Raises:
        UsageError: There are none.
    """
    path = Path(text)
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else text.split(",")
    labels = tuple(line.strip() for line in lines if line.strip())
    if not labels:
        raise UsageError(f"--labels {text!r} names no class, expected a file with one a line, or e.g. cat,dog.")
    return labels


def apply_interface(signature: AnySignature, inputs: Sequence[str], dynamic_size: bool) -> AnySignature:
    """The signature with the interface and the free sizes that `--input` and `--dynamic-size` ask for.

    Raises:
        UsageError: Free height and width are asked for, and the model takes tensors.
    """
    if isinstance(signature, Signature):
        return replace(signature, interface=inputs[-1] if inputs else "pixels", dynamic_size=dynamic_size)
    if dynamic_size:
        raise UsageError(
            "--dynamic-size is for models that take images. For a tensor write `any` for a free size in its --input."
        )
    return signature


def _input(text: str) -> Input:
    name, _, rest = text.partition(":")
    dtype, _, rest = rest.partition(":")
    sides, _, ends = rest.partition(":")
    try:
        shape = tuple(None if side == "any" else int(side) for side in sides.split("x") if side)
        number = float if dtype == "float32" else int
        low, _, high = ends.partition("..")
        return Input(name, dtype, shape, (number(low), number(high)) if ends else None)
    except ValueError as error:
        raise UsageError(
            f"--input is {text!r}; expected `pixels`, `tensor`, or NAME:DTYPE:SHAPE with a dtype of "
            f"{', '.join(DTYPES)}, such as features:float32:13 or ids:int64:16:0..999."
        ) from error
