"""Options: how thoroughly a comparison is made."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """How thoroughly a comparison is made.

    Args:
        num_rounds: None takes what the comparison needs by default.
        num_images: Likewise.
        folder: Keeps photographs and bundles for the next run; None keeps nothing.
        networks: Of `jpegs`: those to compare with.
    """

    num_rounds: int | None = None
    num_images: int | None = None
    folder: Path | None = None
    networks: tuple[str, ...] = ()

    @contextmanager
    def kept(self) -> Iterator[Path]:
        """Where things for the next run lie."""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            yield self.folder
        else:
            with TemporaryDirectory() as name:
                yield Path(name)
