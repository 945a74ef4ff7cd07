"""Marks for tests of what is optional: without the package they are skipped, and say so."""

from __future__ import annotations

import importlib.util

import pytest

__all__ = ["TORCH_IS_INSTALLED", "needs_onnx", "needs_signing", "needs_torch"]

TORCH_IS_INSTALLED = importlib.util.find_spec("torch") is not None


def _needs(package: str, name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{name} is not installed here")


needs_torch = _needs("torch", "PyTorch")
#: Makes ONNX files; the runtime floor reads them without it.
needs_onnx = _needs("onnx", "onnx")
#: Signs bundles: the extra `signing`.
needs_signing = _needs("cryptography", "cryptography")
