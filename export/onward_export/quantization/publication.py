"""Publication: the bundle with its new artifact, written into a staged folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from onward.bundle import Artifact, Bundle, digest_file
from onward.bundle.bill_of_materials import BILL_OF_MATERIALS
from onward.bundle.bundle import SIMULATION
from onward.bundle.golden import save_outputs
from onward_export.manifest import write_manifest
from onward_export.quantization.gate import CheckedFile
from onward_export.quantization.page import FIDELITY_HTML, write_fidelity_page
from onward_export.quantization.selection import Choice

__all__ = ["write_bundle"]


def write_bundle(staged: Path, bundle: Bundle, artifact: Artifact, checked: CheckedFile, choice: Choice) -> str:
    """Copy a bundle beside a new artifact, and write what belongs to the artifact.

    Args:
        staged: The folder; the artifact's file is in it.
        bundle: What is copied, but for an earlier artifact of the same name.
        artifact: The new one.
        checked: Its recorded outputs, and what the gate measured.
        choice: For the page.

    Returns:
        The digest of the manifest.
    """
    records = {
        f"golden/{artifact.name}.npz": checked.outputs,
        f"golden/{artifact.name}{SIMULATION}.npz": checked.simulated,
    }
    artifacts = tuple(item for item in bundle.artifacts if item.name != artifact.name)
    written_anew = {*records, FIDELITY_HTML, BILL_OF_MATERIALS}
    kept = tuple(file for file in bundle.files if file.path not in written_anew)
    for file in (*(item.file for item in artifacts), *kept):
        (staged / file.path).parent.mkdir(parents=True, exist_ok=True)
        (staged / file.path).write_bytes(bundle.read(file))
    for path, outputs in records.items():
        save_outputs(staged / path, outputs)
    whole = replace(bundle, path=staged, artifacts=(*artifacts, artifact))
    write_fidelity_page(staged / FIDELITY_HTML, whole, checked, choice)
    files = (*kept, *(digest_file(staged, staged / path) for path in (*records, FIDELITY_HTML)))
    has_bill = any(file.path == BILL_OF_MATERIALS for file in bundle.files)
    return write_manifest(replace(whole, files=files), bill_of_materials=has_bill)
