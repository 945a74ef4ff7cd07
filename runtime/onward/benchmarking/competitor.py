"""Competitor: one way to run one model, by the name that people ask for it by."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["BACKENDS", "REFERENCE", "Competitor", "Kind"]


@dataclass(frozen=True)
class Kind:
    """What a name stands for.

    Args:
        title: For people.
        format: Of the artifact.
        runner: What runs it, of `onward.backends.RUNNERS`.
        distribution: What has to be installed beside the runtime; empty for nothing.
    """

    title: str
    format: str
    runner: str
    distribution: str = ""


#: PyTorch's ways are the .pt2's module: no model code is needed (docs/decisions/0006-pt2-is-eager.md).
BACKENDS = {
    "torch": Kind("PyTorch", "pt2", "eager", "torch"),
    "torch-channels-last": Kind("channels_last", "pt2", "channels-last", "torch"),
    "torch-compile": Kind("torch.compile", "pt2", "compiled", "torch"),
    "torchscript": Kind("TorchScript", "torchscript", "torchscript", "torch"),
    "pt2": Kind(".pt2 as loaded", "pt2", "module", "torch"),
    "onnxruntime": Kind("onnxruntime", "onnx", "onnxruntime"),
    "openvino": Kind("OpenVINO", "onnx", "openvino", "openvino"),
}
REFERENCE = "torch"


@dataclass(frozen=True)
class Competitor:
    """One way to run one model.

    Args:
        target: The bundle or the ONNX file, as it was named.
        backend: Of `BACKENDS`, or `FILE.py:NAME`.
        provider: What onnxruntime or PyTorch are to run on, as `--provider` has it.
        threads: Of an inference.
    """

    target: str
    backend: str
    provider: str
    threads: int

    @property
    def kind(self) -> Kind:
        """What its backend stands for; somebody's own takes the ONNX file."""
        return BACKENDS.get(self.backend) or Kind(self.backend, "onnx", self.backend)

    @property
    def title(self) -> str:
        """For people: `onnxruntime`, `onnxruntime on cuda`."""
        return self.kind.title if self.provider == "cpu" else f"{self.kind.title} on {self.provider}"

    def to_json(self) -> dict[str, Any]:
        """The one JSON form; `Competitor(**competitor.to_json()) == competitor`."""
        return asdict(self)
