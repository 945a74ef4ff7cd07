"""Options: how a model is exported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from onward.errors import UsageError

__all__ = ["FORMATS", "MAX_PROTOBUF_BYTES", "ExportKeywords", "ExportOptions"]

#: Format -> file, in the order in which a bundle prefers them.
FORMATS = {"onnx": "model.onnx", "torchscript": "model.torchscript", "pt2": "model.pt2"}
TORCHSCRIPT = ("trace", "script")
#: onnxruntime 1.20 (November 2024) reads up to opset 21 and IR version 10. The exporter writes opset 18 or later.
OPSETS = range(18, 24)
IR_VERSIONS = range(8, 12)
#: The limit of protobuf is 2 GiB; names and nodes need some of it.
MAX_PROTOBUF_BYTES = (2 << 30) - (16 << 20)


@dataclass(frozen=True)
class ExportOptions:
    """How a model is exported.

    Args:
        formats: The formats to write, of `FORMATS`; one that cannot be made or does not pass is then an error. None
            tries all: those that pass are published, the others are listed with their reasons.
        opset: The version of ONNX's operator set, 18 to 23.
        ir_version: The version of ONNX's file format, 8 to 11.
        external_data_above_bytes: Weights larger than this in total are written to model.onnx.data beside model.onnx.
        torchscript: `trace`, or `script` where control flow depends on data.
        explain: Whether the error along the graph of the ONNX file is reported even if the file passes.
        bill_of_materials: Whether the bundle holds one: bom.cdx.json, CycloneDX with a model card.
        thorough: Whether the gate uses all samples at once, instead of as many as its verdict needs.

    Raises:
        UsageError: A value is not one of those listed.
    """

    formats: Sequence[str] | None = None
    opset: int = 18
    ir_version: int = 10
    external_data_above_bytes: int = MAX_PROTOBUF_BYTES
    torchscript: str = "trace"
    explain: bool = False
    bill_of_materials: bool = False
    thorough: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.wanted if name not in FORMATS]
        if unknown or not self.wanted or len(set(self.wanted)) != len(self.wanted):
            raise UsageError(
                f"formats are {', '.join(self.wanted) or 'empty'}; expected one or more of {', '.join(FORMATS)}, "
                "each once."
            )
        if self.opset not in OPSETS or self.ir_version not in IR_VERSIONS:
            raise UsageError(
                f"opset is {self.opset} and IR version {self.ir_version}; expected an opset from {OPSETS[0]} to "
                f"{OPSETS[-1]} and an IR version from {IR_VERSIONS[0]} to {IR_VERSIONS[-1]}."
            )
        if self.torchscript not in TORCHSCRIPT:
            raise UsageError(f"torchscript is {self.torchscript!r}; expected {' or '.join(TORCHSCRIPT)}.")
        if self.external_data_above_bytes < 0:
            raise UsageError(f"external_data_above_bytes is {self.external_data_above_bytes}; expected 0 or more.")

    @property
    def wanted(self) -> tuple[str, ...]:
        """The formats to try."""
        return tuple(FORMATS if self.formats is None else self.formats)


class ExportKeywords(TypedDict, total=False):
    """The fields of `ExportOptions`, as keywords of a function."""

    formats: Sequence[str] | None
    opset: int
    ir_version: int
    external_data_above_bytes: int
    torchscript: str
    explain: bool
    bill_of_materials: bool
    thorough: bool
