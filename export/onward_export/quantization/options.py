"""Options: how an artifact of lower precision is made, and what it may lose."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypedDict

from onward.bundle.artifact import FLOAT32
from onward.errors import UsageError
from onward.fidelity import Budget

__all__ = ["ARTIFACT", "INT8", "QuantizeKeywords", "QuantizeOptions", "lower_precision"]

INT8 = "int8"
#: The name of the artifact.
ARTIFACT = f"onnx-{INT8}"
WEIGHT_BITS = (7, 8)


@dataclass(frozen=True)
class QuantizeOptions:
    """How an INT8 artifact is made.

    Args:
        weight_bits: 7, which gives the same results on every processor; or 8, which is a little closer to float32 and
            saturates on processors without VNNI.
        max_in_float: The most nodes that may stay in float32 to keep the budget; 0 for none.
        num_calibration: Images from which the ranges of values are taken.
        num_held_out: The most held-out images that judge the artifact.
        budget: What it may lose.

    Raises:
        UsageError: A value is out of range.
    """

    weight_bits: int = 7
    max_in_float: int = 16
    num_calibration: int = 128
    num_held_out: int = 10_000
    budget: Budget = field(default_factory=Budget)

    def __post_init__(self) -> None:
        if self.weight_bits not in WEIGHT_BITS:
            raise UsageError(f"weights of {self.weight_bits} bits are not possible: choose 7 or 8.")
        for name, least in (("max_in_float", 0), ("num_calibration", 1), ("num_held_out", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} is {getattr(self, name)}, expected {least} or more.")


class QuantizeKeywords(TypedDict, total=False):
    """The fields of `QuantizeOptions`, as keywords of a function."""

    weight_bits: int
    max_in_float: int
    num_calibration: int
    num_held_out: int
    budget: Budget


def lower_precision(text: str, formats: Sequence[str]) -> bool:
    """Whether `--precision` asks for INT8 beside float32.

    Raises:
        UsageError: It asks for anything else, or there will be no ONNX file to quantise.
    """
    if text == FLOAT32:
        return False
    if text.split(",") != [FLOAT32, INT8]:
        raise UsageError(f"--precision is {text!r}, expected {FLOAT32} or {FLOAT32},{INT8}.")
    if "onnx" not in formats:
        raise UsageError(f"--precision {INT8} is made of the ONNX file: add onnx to --formats.")
    return True
