"""HEIF: .heic photographs, which pillow-heif decodes where it is installed."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["HEIF_SUFFIXES", "is_installed", "register"]

HEIF_SUFFIXES = frozenset({".heic", ".heif"})


def is_installed() -> bool:
    """Whether pillow-heif is here. It is not imported."""
    return find_spec("pillow_heif") is not None


def register() -> bool:
    """Let Pillow open HEIF files, if pillow-heif is here. Returns whether it can."""
    if not is_installed():
        return False
    from pillow_heif import register_heif_opener

    register_heif_opener()
    return True
