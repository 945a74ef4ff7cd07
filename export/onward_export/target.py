"""Target: the folder that a bundle is published to."""

from __future__ import annotations

from pathlib import Path

from onward.bundle import MANIFEST
from onward.errors import UsageError
from onward.files import check_writable

__all__ = ["check_target", "page_of_refusal"]


def check_target(out: Path, *, overwrite: bool = True) -> None:
    """Check that a bundle can be written here, before the work begins.

    Args:
        out: The bundle's folder.
        overwrite: Whether it may replace a bundle.

    Raises:
        OutputError: The folder beside it cannot be written.
        UsageError: There is something else than a bundle, or a bundle that may not be replaced.
    """
    if out.exists() and not (out / MANIFEST).is_file() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} exists and is not a bundle, so it is not replaced. Choose another --out.")
    if not overwrite and (out / MANIFEST).is_file():
        raise UsageError(f"{out} is a bundle already. --overwrite replaces it, another --out keeps it.")
    check_writable(page_of_refusal(out))


def page_of_refusal(out: Path) -> Path:
    """The page of a model that did not pass the gate, beside the folder."""
    return out.parent / f"{out.name}.refused.html"
