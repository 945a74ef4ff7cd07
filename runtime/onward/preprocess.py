"""Preprocess: how an image file becomes the pixels that a model takes. A part of the signature."""

from __future__ import annotations

from dataclasses import dataclass, replace

from onward.errors import SignatureError, UsageError

__all__ = ["STRETCH", "Preprocess"]

RESIZE_RULES = ("stretch", "shorter-side")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
#: What becomes of the orientation that a camera writes into a photograph.
EXIF_RULES = ("ignore", "apply")


@dataclass(frozen=True)
class Preprocess:
    """How a decoded image of any size becomes `(height, width)` pixels.

    Args:
        resize: `stretch` scales both sides to the input size; `shorter-side` scales the shorter side to
            `shorter_side_px`, keeping proportions, then crops the centre.
        shorter_side_px: Only for `shorter-side`.
        interpolation: `nearest`, `bilinear` or `bicubic`, antialiased as Pillow does it.
        exif: `apply` turns an image by its EXIF orientation, `ignore` leaves it as torchvision's `ImageFolder` does.

    Raises:
        SignatureError: A rule is unknown, or `shorter_side_px` does not fit it.
    """

    resize: str = "stretch"
    shorter_side_px: int | None = None
    interpolation: str = "bilinear"
    exif: str = "ignore"

    def __post_init__(self) -> None:
        if self.resize not in RESIZE_RULES:
            raise SignatureError(f"resize rule {self.resize!r} is unknown; expected one of {RESIZE_RULES}.")
        if self.interpolation not in INTERPOLATIONS:
            raise SignatureError(f"interpolation {self.interpolation!r} is unknown; expected one of {INTERPOLATIONS}.")
        if self.exif not in EXIF_RULES:
            raise SignatureError(f"EXIF rule {self.exif!r} is unknown; expected one of {EXIF_RULES}.")
        if (self.resize == "shorter-side") != (self.shorter_side_px is not None):
            raise SignatureError("shorter_side_px is given with resize 'shorter-side', and only with it.")
        if self.shorter_side_px is not None and self.shorter_side_px < 1:
            raise SignatureError(f"shorter_side_px is {self.shorter_side_px}, expected at least 1.")

    def describe(self) -> str:
        """How an image gets its size, in words."""
        return f"shorter side to {self.shorter_side_px}, then the centre" if self.shorter_side_px else "stretched"

    def with_exif(self, rule: str | None) -> Preprocess:
        """The same with another rule for the EXIF orientation; None changes nothing.

        Raises:
            UsageError: The rule is unknown.
        """
        if rule is not None and rule not in EXIF_RULES:
            raise UsageError(f"exif is {rule!r}, expected {' or '.join(EXIF_RULES)}.")
        return self if rule is None else replace(self, exif=rule)


#: What a signature has that says nothing else.
STRETCH = Preprocess()
