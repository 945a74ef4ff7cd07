"""Marks for tests of what is optional: without the package they are skipped, and say so."""

from __future__ import annotations

import importlib.util

import onnxruntime
import PIL
import pytest

__all__ = ["TORCH_IS_INSTALLED", "needs_onnx", "needs_pillow_13", "needs_placement", "needs_signing", "needs_torch"]

TORCH_IS_INSTALLED = importlib.util.find_spec("torch") is not None


def _needs(package: str, name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{name} is not installed here")


needs_torch = _needs("torch", "PyTorch")
#: Makes ONNX files; the runtime floor reads them without it.
needs_onnx = _needs("onnx", "onnx")
#: Signs bundles: the extra `signing`.
needs_signing = _needs("cryptography", "cryptography")
#: The apps of embed in JavaScript scale as Pillow 13 does; older versions round up to one level otherwise.
needs_pillow_13 = pytest.mark.skipif(int(PIL.__version__.split(".")[0]) < 13, reason="scales as Pillow 13 does")
#: onnxruntime 1.23 and older do not say which provider runs which nodes.
needs_placement = pytest.mark.skipif(
    not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"),
    reason="this onnxruntime does not report which provider runs which nodes",
)
