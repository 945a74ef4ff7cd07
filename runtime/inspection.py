"""Inspection: what a bundle or an ONNX file says of itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from runtime.bundle import Bundle
from runtime.errors import BundleError

__all__ = ["METADATA_KEY", "inspect_bundle", "inspect_onnx"]

#: The key of ONNX metadata_props under which model.onnx carries its signature.
METADATA_KEY = "onward.signature"


def inspect_bundle(path: Path) -> dict[str, Any]:
    """Signature, artifacts, parity and provenance of a bundle.

    Raises:
        BundleError: There is none, or it was changed.
    """
    bundle = Bundle.open(path)
    return bundle.to_json() | {"path": str(path)}


def inspect_onnx(path: Path) -> dict[str, Any]:
    """Inputs, outputs and metadata of any ONNX file; the signature where the file is ours.

    Raises:
        BundleError: The file is no ONNX model.
    """
    import onnxruntime as ort

    from runtime.backends.session import ORT_ERRORS

    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except ORT_ERRORS as error:
        raise BundleError(f"{path} is neither a bundle, nor a checkpoint, nor an ONNX model: {error}") from error
    meta = session.get_modelmeta()
    metadata = dict(meta.custom_metadata_map)
    signature = metadata.pop(METADATA_KEY, None)
    return {
        "path": str(path),
        "producer": meta.producer_name,
        "inputs": [_value(item) for item in session.get_inputs()],
        "outputs": [_value(item) for item in session.get_outputs()],
        "signature": json.loads(signature) if signature else None,
        "metadata": metadata,
    }


def _value(item: Any) -> dict[str, Any]:
    return {"name": item.name, "dtype": item.type, "shape": list(item.shape)}
