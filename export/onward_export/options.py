"""Options: how a model is exported, beside what it is."""

from __future__ import annotations

from dataclasses import dataclass

from onward.errors import UsageError

__all__ = ["FORMATS", "MAX_PROTOBUF_BYTES", "ExportOptions"]

#: Format -> file, in order of preference where a bundle is run.
FORMATS = {"onnx": "model.onnx", "torchscript": "model.torchscript", "pt2": "model.pt2"}
TORCHSCRIPT = ("trace", "script")
#: What onnxruntime 1.20 (November 2024) reads: opset 21, IR version 10. The exporter writes opset 18 at the least.
OPSETS = range(18, 24)
IR_VERSIONS = range(8, 12)
#: The limit of protobuf is 2 GiB; names and nodes need some of it.
MAX_PROTOBUF_BYTES = (2 << 30) - (16 << 20)


@dataclass(frozen=True)
class ExportOptions:
    """How a model is exported.

    Args:
        formats: Of `FORMATS`.
        opset: Version of ONNX's operators, 18 to 23.
        ir_version: Version of ONNX's file format, 8 to 11.
        external_data_above_bytes: Weights of more bytes go into model.onnx.data beside model.onnx.
        torchscript: `trace`, or `script` where control flow depends on data.
        explain: Whether the error is followed along the graph of the ONNX file even if it passes.

    Raises:
        UsageError: One of them is out of range.
    """

    formats: tuple[str, ...] = tuple(FORMATS)
    opset: int = 18
    ir_version: int = 10
    external_data_above_bytes: int = MAX_PROTOBUF_BYTES
    torchscript: str = "trace"
    explain: bool = False

    def __post_init__(self) -> None:
        unknown = [name for name in self.formats if name not in FORMATS]
        if unknown or not self.formats or len(set(self.formats)) != len(self.formats):
            raise UsageError(
                f"formats are {', '.join(self.formats) or 'none'}; expected some of {', '.join(FORMATS)}, each once."
            )
        if self.opset not in OPSETS or self.ir_version not in IR_VERSIONS:
            raise UsageError(
                f"opset {self.opset} with IR version {self.ir_version}: there are opsets {OPSETS[0]} to {OPSETS[-1]} "
                f"and IR versions {IR_VERSIONS[0]} to {IR_VERSIONS[-1]}."
            )
        if self.torchscript not in TORCHSCRIPT:
            raise UsageError(f"TorchScript is made by {' or '.join(TORCHSCRIPT)}, not by {self.torchscript!r}.")
        if self.external_data_above_bytes < 0:
            raise UsageError("the size above which weights go into a file of their own cannot be negative.")
