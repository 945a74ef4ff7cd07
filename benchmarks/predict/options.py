"""Options of a comparison."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

__all__ = ["ComparisonOptions"]


@dataclass(frozen=True)
class ComparisonOptions:
    """Options of a comparison.

    Args:
        num_rounds: Number of rounds; None takes the comparison's default.
        num_images: Number of images; None takes the comparison's default.
        folder: Keeps photographs and bundles for the next run; None keeps nothing.
        networks: torchvision networks for `jpegs`; none takes the default ones.
    """

    num_rounds: int | None = None
    num_images: int | None = None
    folder: Path | None = None
    networks: tuple[str, ...] = ()

    @contextmanager
    def kept(self) -> Iterator[Path]:
        """The folder for photographs and bundles; a temporary one if none is kept."""
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            yield self.folder
        else:
            with TemporaryDirectory() as name:
                yield Path(name)
