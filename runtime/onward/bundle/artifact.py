"""Artifact: one runnable file of a bundle, as the manifest describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from onward.errors import some_of
from onward.fidelity import Fidelity

__all__ = ["FLOAT32", "Artifact", "FileDigest"]

#: The precision of what is judged by PyTorch's own error.
FLOAT32 = "float32"
#: What of a recipe is short enough for a sentence.
MAX_SHOWN_ITEMS, MAX_SHOWN_CHARS = 3, 24


@dataclass(frozen=True)
class FileDigest:
    """One file of a bundle: a POSIX path relative to it, its SHA-256 and its size."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Artifact:
    """One runnable file of a bundle.

    A bundle may hold several artifacts of one format, each with a name and a precision of its own. The manifest has the
    last four fields only where they are set.

    Args:
        name: What users choose it by, unique in the bundle: `onnx`, `onnx-int8`. Its recorded outputs are in
            `golden/<name>.npz`.
        format: `onnx`, `torchscript` or `pt2`; it decides which backends can run it.
        file: Its path and digest.
        precision: Of its weights and arithmetic: `float32`, or a lower one: `int8`.
        opset: The version of ONNX's operators; None for other formats.
        noise_ratio: The worst one that was measured. It is the verdict on float32 only.
        requires: Libraries that register some of its operators: `torchvision`.
        parent: The name of the float32 artifact that one of lower precision was made from.
        recipe: How it was made from it: plain JSON.
        fidelity: What it loses against its parent, which is the verdict on a lower precision.
    """

    name: str
    format: str
    file: FileDigest
    precision: str
    opset: int | None
    noise_ratio: float
    requires: tuple[str, ...] = ()
    parent: str = ""
    recipe: Mapping[str, Any] = field(default_factory=dict, hash=False)
    fidelity: Fidelity | None = None

    @property
    def is_float32(self) -> bool:
        """Whether it computes in float32, and is judged by PyTorch's own error."""
        return self.precision == FLOAT32

    def describe(self) -> str:
        """What one of lower precision was made from, how, and what it loses, in a sentence; empty for float32."""
        if self.is_float32:
            return ""
        shown = {key.replace("_", " "): _shown(value) for key, value in self.recipe.items()}
        recipe = ", ".join(f"{key} {text}" for key, text in shown.items() if text)
        how = f" ({recipe})" if recipe else ""
        loss = "what it loses was not recorded" if self.fidelity is None else self.fidelity.describe()
        return f"{self.name} is {self.precision}, made from {self.parent}{how}: {loss}."

    def to_json(self) -> dict[str, Any]:
        """Its entry of the manifest."""
        entry = {
            "name": self.name,
            "format": self.format,
            "file": asdict(self.file),
            "precision": self.precision,
            "opset": self.opset,
            "noise_ratio": self.noise_ratio,
        }
        optional = {
            "requires": list(self.requires),
            "parent": self.parent,
            "recipe": dict(self.recipe),
            "fidelity": self.fidelity and self.fidelity.to_json(),
        }
        return entry | {key: value for key, value in optional.items() if value}


def _shown(value: Any) -> str:
    """A value of a recipe, in a few characters; empty for one that is too long."""
    if isinstance(value, (list, tuple)):
        if not all(isinstance(item, (str, int, float)) for item in value):
            return ""
        return some_of(value, MAX_SHOWN_ITEMS) or "none"
    return str(value) if isinstance(value, (str, int, float)) and len(str(value)) <= MAX_SHOWN_CHARS else ""
