"""Source: a library whose classifiers are members of the zoo."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["MAX_GMACS", "ROOT", "SEED", "Member", "Source"]

ROOT = Path(__file__).parents[2]
SEED = 0
#: Multiply-adds for one image, in 10^9. The float64 reference is slow: a member with more gets smaller images.
MAX_GMACS = 6.0
#: An ONNX file holds less than 2^31 bytes, 4 of them a parameter.
MAX_PARAMETERS = 2**29


@dataclass(frozen=True)
class Member:
    """A classifier of a library.

    Args:
        name: Its name in the library.
        side: The side of its images here, in pixels.
        native_side: The side of the images that it was made for.
        gmacs: Multiply-adds for one image of `side`, in 10^9.
        num_parameters: Parameters of the network.
        library: The name of its source.
        family: The library's module that defines it; empty where the library has no such modules.
    """

    name: str
    side: int
    native_side: int
    gmacs: float
    num_parameters: int
    library: str = "torchvision"
    family: str = ""

    @property
    def left_out(self) -> str | None:
        """The reason why it is not exported, or None."""
        if self.num_parameters < MAX_PARAMETERS:
            return None
        return f"{self.num_parameters / 1e6:,.0f} million parameters do not fit into one ONNX file of 2 GB."


@dataclass(frozen=True)
class Source:
    """A library of classifiers.

    Args:
        library: Its name.
        members: Returns its members, the cheapest first; the argument is the most multiply-adds, in 10^9.
        build: Returns a member's network with random weights, and its signature.
    """

    library: str
    members: Callable[[float], list[Member]]
    build: Callable[[Member], tuple[Any, Any]]
