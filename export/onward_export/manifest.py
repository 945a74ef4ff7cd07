"""Manifest: the last file of a bundle that is written, and the digest by which the bundle is known."""

from __future__ import annotations

import json
from dataclasses import replace

from onward.bundle import MANIFEST, Bundle, digest_file
from onward.bundle.bill_of_materials import BILL_OF_MATERIALS, bill_text

__all__ = ["write_manifest"]


def write_manifest(bundle: Bundle, *, bill_of_materials: bool) -> str:
    """Write the manifest, and before it the bill of materials, where one is wanted.

    Args:
        bundle: Its path is the folder that is written; its files are all but the bill.
        bill_of_materials: Whether it gets one.

    Returns:
        The digest of the manifest.
    """
    if bill_of_materials:
        bill = bundle.path / BILL_OF_MATERIALS
        bill.write_text(bill_text(bundle), encoding="utf-8")
        bundle = replace(bundle, files=(*bundle.files, digest_file(bundle.path, bill)))
    document = bundle.to_json()
    (bundle.path / MANIFEST).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return str(document["manifest_sha256"])
