"""Reference: what artifacts are held against, and the samples on which they are."""

from onward_export.reference.reference import make_reference

__all__ = ["make_reference"]
