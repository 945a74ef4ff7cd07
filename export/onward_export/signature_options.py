"""Signature options: the options of `onward export` that describe inputs and labels, as a signature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from onward.errors import SignatureError, UsageError
from onward.signature import DTYPES, INTERFACES, AnySignature, Input, Signature, TensorSignature

__all__ = ["apply_interface", "image_signature", "tensor_signature"]


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
        return TensorSignature(tuple(map(_input, described)), _labels(labels))
    except SignatureError as error:
        raise UsageError(str(error)) from error


def image_signature(
    input_size: str | None, labels: str | None, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Signature | None:
    """The signature of a model that takes images, or None where neither size nor labels are given.

    Raises:
        UsageError: Only some of the four are given, or the size cannot be read.
    """
    if input_size is None and labels is None:
        return None
    if input_size is None or labels is None or mean is None or std is None:
        raise UsageError(
            "--input-size, --labels, --mean and --std must be given together. `--data NAME` takes all four from a "
            "data set."
        )
    sides = input_size.split("x")
    if len(sides) != 3 or not all(side.isdigit() for side in sides):
        raise UsageError(f"--input-size is {input_size!r}; expected HEIGHTxWIDTHxCHANNELS such as 28x28x1.")
    height, width, channels = map(int, sides)
    return Signature(
        height=height,
        width=width,
        channels=channels,
        mean=_each(mean, channels),
        std=_each(std, channels),
        labels=_labels(labels),
    )


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


def _each(values: Sequence[float], channels: int) -> tuple[float, ...]:
    return tuple(values) * (channels if len(values) == 1 else 1)


def _labels(text: str) -> tuple[str, ...]:
    path = Path(text)
    names = path.read_text(encoding="utf-8").splitlines() if path.is_file() else text.split(",")
    return tuple(name.strip() for name in names if name.strip())
