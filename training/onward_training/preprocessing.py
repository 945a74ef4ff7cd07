"""Stated preprocessing: what the options of a command say about how an image becomes a network's input.

`train`, `evaluate` and `export` share these options: --image-size, --resize, --mean, --std and --exif.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from typing import Any

from onward.errors import SignatureError, UsageError
from onward.preprocess import INTERPOLATIONS, Preprocess
from onward.signature import Signature

__all__ = ["NOTHING_STATED", "StatedPreprocessing", "joined"]

#: Values of `--mean` and `--std`: one for all channels, or one for each.
NUM_VALUES = (1, 3)


@dataclass(frozen=True)
class StatedPreprocessing:
    """The options that were given; None where one was not.

    Args:
        image_size: `(height, width)`.
        channels: 1 or 3.
        resize: How an image gets that size. Its rule for EXIF is not used.
        mean: Of pixels scaled to 0..1; one number or three.
        std: Above 0; one number or three.
        exif: `apply` or `ignore`.
    """

    image_size: tuple[int, int] | None = None
    channels: int | None = None
    resize: Preprocess | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    exif: str | None = None

    @classmethod
    def parse(
        cls, image_size: str | None, resize: str | None, mean: str | None, std: str | None, exif: str | None
    ) -> StatedPreprocessing:
        """Parse the values of the options.

        Raises:
            UsageError: One cannot be read.
        """
        size, channels = _parse_size(image_size) if image_size is not None else (None, None)
        means, stds = _parse_numbers(mean), _parse_numbers(std)
        for option, values in (("--mean", means), ("--std", stds)):
            if values is not None and len(values) not in NUM_VALUES:
                raise UsageError(f"{option} has {len(values)} numbers, expected one, or one for each of 3 channels.")
        if stds is not None and not min(stds) > 0:
            raise UsageError(f"--std is {std}, expected numbers above 0.")
        if exif is not None:
            Preprocess().with_exif(exif)  # raises if the rule is unknown
        if 3 in (len(means or ()), len(stds or ())):
            channels = channels or 3
        return cls(size, channels, _parse_resize(resize) if resize is not None else None, means, stds, exif)

    @property
    def given(self) -> list[str]:
        """The options that were given."""
        return [
            "--" + item.name.replace("_", "-")
            for item in fields(self)
            if item.name != "channels" and getattr(self, item.name) is not None
        ]

    def check_none(self, what: str) -> None:
        """Check that no option is given beside a model that says itself how it takes images.

        Raises:
            UsageError: One is.
        """
        if self.given:
            raise UsageError(
                f"{what}, and its signature says how images become its input: leave {' and '.join(self.given)} out."
            )

    @classmethod
    def of(cls, signature: Signature) -> StatedPreprocessing:
        """All that a signature says."""
        size, rule = (signature.height, signature.width), signature.preprocess
        return cls(size, signature.channels, rule, signature.mean, signature.std, rule.exif)

    def or_of(self, other: StatedPreprocessing) -> StatedPreprocessing:
        """The same, with what is missing taken from another; its resize rule only if the images get its size."""
        if self.image_size not in (None, other.image_size):
            other = replace(other, resize=None)
        return StatedPreprocessing(
            **{item.name: _first(getattr(self, item.name), getattr(other, item.name)) for item in fields(self)}
        )

    def rule(self) -> Preprocess:
        """How an image gets the size; by default both sides are stretched."""
        return (self.resize or Preprocess()).with_exif(self.exif)

    def on(self, signature: Signature) -> Signature:
        """The signature with the mean and standard deviation that are stated."""
        channels = signature.channels * signature.repeat
        mean, std = _per_channel(self.mean, channels), _per_channel(self.std, channels)
        if max(len(mean or ()), len(std or ())) > channels:  # of a network of three channels that gets grey images
            signature = replace(signature, repeat=3, mean=signature.mean * 3, std=signature.std * 3)
            mean, std = _per_channel(self.mean, 3), _per_channel(self.std, 3)
        return replace(signature, mean=mean or signature.mean, std=std or signature.std)


NOTHING_STATED = StatedPreprocessing()


def joined(value: object, joint: str) -> str | None:
    """A value from Python as an option's text: `28x28x1`, `0.5,0.4,0.3`; None stays None.

    Args:
        value: A number, a text or a sequence of them.
        joint: What is between two of them.
    """
    if value is None or isinstance(value, str):
        return value
    return joint.join(map(str, value)) if isinstance(value, Iterable) else str(value)


def _parse_size(text: str) -> tuple[tuple[int, int], int | None]:
    """Parse `224`, `HEIGHTxWIDTH` or `HEIGHTxWIDTHxCHANNELS` of `--image-size`.

    Raises:
        UsageError: It is none of them.
    """
    sides = text.split("x")
    if len(sides) > 3 or not all(side.isdigit() and int(side) for side in sides) or sides[2:] not in ([], ["1"], ["3"]):
        raise UsageError(
            f"--image-size is {text!r}, expected a side such as 224, HEIGHTxWIDTH such as 28x28, or "
            f"HEIGHTxWIDTHxCHANNELS such as 28x28x1."
        )
    return (int(sides[0]), int(sides[1 if len(sides) > 1 else 0])), int(sides[2]) if len(sides) == 3 else None


def _parse_resize(text: str) -> Preprocess:
    """Parse `stretch` or `shorter-side:256`, with an interpolation behind it or not: `stretch:bicubic`.

    Raises:
        UsageError: It is neither.
    """
    rule, *rest = text.split(":")
    side = rest.pop(0) if rule == "shorter-side" and rest else None
    interpolation = rest.pop(0) if rest else "bilinear"
    if rest or (side is not None and not side.isdigit()) or interpolation not in INTERPOLATIONS:
        raise _wrong_resize(text)
    try:
        return Preprocess(rule, int(side) if side else None, interpolation)
    except SignatureError as error:
        raise _wrong_resize(text) from error


def _wrong_resize(text: str) -> UsageError:
    return UsageError(
        f"--resize is {text!r}, expected stretch or shorter-side:PIXELS such as shorter-side:256, and behind it, if it "
        f"is not bilinear, the interpolation: stretch:bicubic."
    )


def _first(value: Any, other: Any) -> Any:
    return other if value is None else value


def _per_channel(values: tuple[float, ...] | None, channels: int) -> tuple[float, ...] | None:
    return values * channels if values is not None and len(values) == 1 else values


def _parse_numbers(text: str | None) -> tuple[float, ...] | None:
    """Parse comma-separated numbers, of `--mean` and `--std`.

    Raises:
        UsageError: One is not a number.
    """
    try:
        return tuple(map(float, text.split(","))) if text is not None else None
    except ValueError as error:
        raise UsageError(f"{text!r} is not a list of numbers, expected e.g. 0.485,0.456,0.406.") from error
