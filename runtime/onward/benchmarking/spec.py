"""Options: how to time.

Competitor: one way to run one model, by the name that people ask for it by.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from onward.errors import UsageError

__all__ = ["BACKENDS", "REFERENCE", "Competitor", "Kind", "Options"]


@dataclass(frozen=True)
class Options:
    """How to time.

    Args:
        batch_sizes: Samples an inference; timed from the smallest up.
        num_launches: How often each competitor is started anew. Two processes of one program differ by some percent,
            by where their memory lies: how far a ratio is known depends on their number more than on that of rounds.
        num_rounds: Of a launch and a batch size; in each round every competitor has one turn, in an order drawn anew.
            Many short turns rather than few long ones: what disturbs a machine comes and goes within a tenth of a
            second.
        enough_s: Where inferences are slow there are fewer rounds, seven at the least: they end when every competitor
            has had turns of so many seconds in all.
        turn_s: Seconds that a turn lasts at least.
        max_warm_up_s: When a level that does not settle is taken as it is, and said to.
        pause_s: The idle gap before an inference that is timed after one.
        timeout_s: When a competitor that does not answer is ended.
        seed: Of the order and of what is drawn.

    Raises:
        UsageError: Nothing would be timed.
    """

    batch_sizes: tuple[int, ...] = (1, 8, 32)
    num_launches: int = 5
    num_rounds: int = 30
    enough_s: float = 2.0
    turn_s: float = 0.03
    max_warm_up_s: float = 10.0
    pause_s: float = 1.0
    timeout_s: float = 600.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.batch_sizes or min(*self.batch_sizes, self.num_launches, self.num_rounds) < 1:
            raise UsageError("batch sizes, launches and rounds must be at least 1.")
        object.__setattr__(self, "batch_sizes", tuple(sorted(set(self.batch_sizes))))


@dataclass(frozen=True)
class Kind:
    """What a name stands for.

    Args:
        title: For people.
        format: Of the artifact.
        runner: What runs it, see `onward.backends.BACKENDS`.
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
