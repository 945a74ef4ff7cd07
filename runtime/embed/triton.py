"""Triton: a model repository for NVIDIA's Triton Inference Server, from the signature."""

from __future__ import annotations

from pathlib import Path

from runtime.bundle import Bundle

__all__ = ["write_repository"]


def write_repository(bundle: Bundle, folder: Path, name: str) -> None:
    """Write `NAME/config.pbtxt`, `NAME/labels.txt` and `NAME/1/model.onnx`."""
    raise NotImplementedError
