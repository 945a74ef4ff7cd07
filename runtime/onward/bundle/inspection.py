"""Inspection: what a bundle or an ONNX file states about itself."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from onward.bundle import Bundle
from onward.bundle.onnx_header import read_header
from onward.document import parse
from onward.errors import BundleError
from onward.signature import signature_from_json

__all__ = ["LICENCE_KEY", "METADATA_KEY", "PRECISION_KEY", "inspect_bundle", "inspect_onnx"]

#: The key of ONNX metadata_props under which model.onnx carries its signature.
METADATA_KEY = "onward.signature"
#: The key of the model's licence, where it has one.
LICENCE_KEY = "onward.licence"
#: The key of the precision of a file that is not float32.
PRECISION_KEY = "onward.precision"


def inspect_bundle(path: Path) -> dict[str, Any]:
    """Signature, artifacts, parity and provenance of a bundle.

    Raises:
        BundleError: There is no bundle, or it was changed.
    """
    bundle = Bundle.open(path)
    return bundle.to_json() | {"path": str(path)}


def inspect_onnx(path: Path) -> dict[str, Any]:
    """Inputs, outputs, nodes and metadata of any ONNX file; the signature where Onward wrote it.

    Weights are not read: a file of 2 GB takes as long as a small one.

    Raises:
        BundleError: The file is not an ONNX model, or its signature cannot be read.
    """
    header = read_header(path)
    metadata = dict(header.metadata)
    signature = metadata.pop(METADATA_KEY, None)
    document = asdict(header) | {"path": str(path), "num_nodes": header.num_nodes, "metadata": metadata}
    place = f"{path}, metadata {METADATA_KEY!r}"
    document["signature"] = signature_from_json(parse(signature, place, BundleError)).to_json() if signature else None
    document["external"] = [
        asdict(item) | {"state": _state_of(path, item.location, item.size_bytes)} for item in header.external
    ]
    return document


def _state_of(path: Path, location: str, size_bytes: int) -> str:
    """Whether a file of weights exists; a path outside the model's folder is not looked at."""
    relative = PurePosixPath(location)
    if relative.is_absolute() or ".." in relative.parts or "\\" in location or ":" in location or "\0" in location:
        return "outside the folder: not looked at"
    try:
        found = (path.parent / relative).stat().st_size
    except OSError:
        return "missing"
    return "there" if found >= size_bytes else f"cut short: {found:,} bytes"
