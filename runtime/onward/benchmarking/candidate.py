"""Candidate: one way to run one model, e.g. a bundle's ONNX file on onnxruntime with two threads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onward.backends import BackendSpec

__all__ = ["Candidate", "shortest_paths"]

FLOAT32 = "float32"  # as `onward.bundle` has it, which a worker imports later: that import is measured


@dataclass(frozen=True)
class Candidate:
    """One way to run one model.

    Args:
        target: The bundle or the ONNX file, as the user named it.
        backend: A name in `onward.backends.BACKENDS`, or `FILE.py:NAME`.
        provider: The execution provider for onnxruntime or PyTorch, as in `--provider`.
        threads: Threads per inference.
        artifact: The name of a bundle's artifact; empty for the preferred one of the backend's format, in float32.
        precision: Of the artifact.
    """

    target: str
    backend: str
    provider: str
    threads: int
    artifact: str = ""
    precision: str = FLOAT32

    @property
    def backend_spec(self) -> BackendSpec | None:
        """The registered backend; None for a custom one."""
        from onward.backends import BACKENDS  # a worker measures this import, and imports this file before

        return BACKENDS.get(self.backend)

    @property
    def is_float32(self) -> bool:
        """Whether its outputs are judged by PyTorch's own error."""
        return self.precision == FLOAT32

    @property
    def format(self) -> str:
        """The format of the artifact that it runs; a custom backend runs the ONNX file."""
        return self.backend_spec.format if self.backend_spec else "onnx"

    @property
    def title(self) -> str:
        """The name in tables: `onnxruntime`, `onnxruntime on cuda`, `onnxruntime int8`."""
        title = self.backend_spec.title if self.backend_spec else self.backend
        if self.artifact:
            is_plain = self.artifact == f"{self.format}-{self.precision}"
            title += f" {self.precision}" if is_plain else f" {self.precision} {self.artifact}"
        return title if self.provider == "cpu" else f"{title} on {self.provider}"

    def to_json(self) -> dict[str, Any]:
        """The one JSON form, with artifact and precision where an artifact was named.

        `Candidate(**candidate.to_json()) == candidate`.
        """
        document = asdict(self)
        if not self.artifact:
            del document["artifact"], document["precision"]
        return document


def shortest_paths(targets: Collection[str]) -> dict[str, str]:
    """Target -> as few of its last parts as no other target ends with: `a/fashion` and `b/fashion`.

    What is between the first and the last of three or more parts is left out: `before/…/fashion`.
    """
    ends = {target: _distinct_end(target, targets) for target in targets}
    short = {target: "/".join((end[0], "…", end[-1]) if len(end) > 2 else end) for target, end in ends.items()}
    counts = Counter(short.values())
    return {target: name if name and counts[name] == 1 else target for target, name in short.items()}


def _distinct_end(target: str, targets: Collection[str]) -> tuple[str, ...]:
    parts = PurePath(target).parts
    others = [PurePath(other).parts for other in targets if other != target]
    ends = (parts[-count:] for count in range(1, len(parts) + 1))
    return next((end for end in ends if all(other[-len(end) :] != end for other in others)), ())
