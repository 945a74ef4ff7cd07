"""Bundle: the folder that `onward export` writes, what proves it, and what can be said of it without running it."""

from onward.bundle.artifact import FLOAT32, Artifact, FileDigest
from onward.bundle.bundle import (
    FORMAT,
    GOLDEN,
    MANIFEST,
    PARITY_HTML,
    PARITY_JSON,
    Bundle,
    digest_file,
    manifest_digest,
    previous_path,
)

__all__ = [
    "FLOAT32",
    "FORMAT",
    "GOLDEN",
    "MANIFEST",
    "PARITY_HTML",
    "PARITY_JSON",
    "Artifact",
    "Bundle",
    "FileDigest",
    "digest_file",
    "manifest_digest",
    "previous_path",
]
