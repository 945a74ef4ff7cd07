"""An ONNX file of Onward's without its bundle: the signature and the labels are in its metadata."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from onward.bundle.artifact import FLOAT32, Artifact
from onward.bundle.bundle import Bundle, digest_file
from onward.bundle.inspection import METADATA_KEY, PRECISION_KEY
from onward.bundle.onnx_header import read_header
from onward.bundle.trust import Trust
from onward.document import parse
from onward.errors import BundleError
from onward.model_file import kind_of
from onward.signature import signature_from_json

__all__ = ["open_bundle_or_onnx"]


def open_bundle_or_onnx(path: Path, trust: Trust) -> Bundle:
    """Open a bundle, or an ONNX file as a bundle of this one artifact, which has nothing to verify it with.

    Raises:
        BundleError: As `Bundle.open`; or the file is not Onward's, or a key was given, which signs bundles only.
    """
    if kind_of(path) != "onnx":
        return Bundle.open(path, trust)
    if trust.key is not None:
        raise BundleError(f"{path} is a file, and --key checks bundles: give the bundle's folder.")
    header = read_header(path)
    metadata = dict(header.metadata)
    text = metadata.get(METADATA_KEY)
    if text is None:
        raise BundleError(
            f"{path} has no signature, because Onward did not write it: how images become its inputs, and its labels, "
            f"are unknown. `onward bench {path}` can time it; `onward export` of its weights makes a bundle."
        )
    names = [item.location for item in header.external if PurePosixPath(item.location).name == item.location]
    beside = [path.parent / name for name in names if name.startswith(path.name)]
    return Bundle(
        path.parent,
        signature_from_json(parse(text, f"{path}, metadata {METADATA_KEY!r}", BundleError)),
        (
            Artifact(
                "onnx",
                "onnx",
                digest_file(path.parent, path),
                metadata.get(PRECISION_KEY, FLOAT32),
                header.opsets.get("ai.onnx"),
                float("nan"),
            ),
        ),
        tuple(digest_file(path.parent, file) for file in beside if file.is_file()),
        {},
        trust=trust,
    )
