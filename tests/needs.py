"""Marks for tests of what is optional: without the package they are skipped, and say so."""

from __future__ import annotations

import importlib.util
from importlib.metadata import version

import onnxruntime
import PIL
import pytest

__all__ = ["FORMATS", "HAS_PILLOW_13", "PT2", "TORCH_IS_INSTALLED", "WRITES_PT2", "needs_onnx", "needs_pillow_13",
           "needs_placement", "needs_pt2", "needs_signing", "needs_torch"]  # fmt: skip

TORCH_IS_INSTALLED = importlib.util.find_spec("torch") is not None
#: PyTorch before 2.9 writes .pt2 files that hold pickles, which are not published. Without it, another one made them.
WRITES_PT2 = not TORCH_IS_INSTALLED or tuple(map(int, version("torch").split(".")[:2])) >= (2, 9)
#: The artifacts of the bundle that tests share.
FORMATS = ("onnx", "torchscript", "pt2") if WRITES_PT2 else ("onnx", "torchscript")


def _needs(package: str, name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{name} is not installed here")


needs_torch = _needs("torch", "PyTorch")
needs_pt2 = pytest.mark.skipif(not WRITES_PT2, reason="PyTorch before 2.9 writes no .pt2 without pickles")
PT2 = pytest.param("pt2", marks=needs_pt2)
#: Makes ONNX files; the runtime floor reads them without it.
needs_onnx = _needs("onnx", "onnx")
#: Signs bundles: the extra `signing`.
needs_signing = _needs("cryptography", "cryptography")
#: The apps of embed in JavaScript scale as Pillow 13 does; older versions round up to one level otherwise.
HAS_PILLOW_13 = int(PIL.__version__.split(".")[0]) >= 13
needs_pillow_13 = pytest.mark.skipif(not HAS_PILLOW_13, reason="scales as Pillow 13 does")
#: onnxruntime 1.23 and older do not say which provider runs which nodes.
needs_placement = pytest.mark.skipif(
    not hasattr(onnxruntime.InferenceSession, "get_provider_graph_assignment_info"),
    reason="this onnxruntime does not report which provider runs which nodes",
)
