"""Target: where a quantised bundle is written, checked before the work begins."""

from __future__ import annotations

from pathlib import Path

from onward.bundle import Bundle
from onward.errors import UsageError
from onward_export.quantization.options import ARTIFACT
from onward_export.target import check_target

__all__ = ["check_quantize_target"]


def check_quantize_target(bundle: Bundle, out: Path, overwrite: bool) -> None:
    """Check that the bundle can be written, and that nothing is replaced unasked, before the work begins.

    Raises:
        OutputError: The folder beside `out` cannot be written.
        UsageError: There is something else than a bundle, or something would be overwritten.
    """
    is_same = out.resolve() == bundle.path.resolve()
    check_target(out, overwrite=overwrite or is_same)
    if is_same and not overwrite and ARTIFACT in bundle.artifact_names:
        raise UsageError(f"{out} has {ARTIFACT} already. --overwrite makes it anew, another --out keeps it.")
