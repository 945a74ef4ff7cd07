"""Reference images: image files with known pixels, by which an app compares its decoder and scaling with Pillow's.

They are separate from parity: JPEG decoders may differ by a few levels, which must not change a noise ratio.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from onward.images.decode import prepare
from onward.signature import Signature

__all__ = ["ReferenceImage", "draw_reference_images"]

#: Reference images are larger than the model input by this factor, so that scaling is compared, too.
LARGER = 1.3
#: The largest and the mean difference that are allowed for a decoded and scaled JPEG, in levels of 0 to 255.
MAX_LEVELS, MAX_MEAN_LEVELS = 8, 1.0
UPRIGHT, QUARTER_TURN = 1, 6
EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class ReferenceImage:
    """An image file, and the pixels that an app must decode from it.

    Args:
        path: File name.
        content: PNG or JPEG.
        pixels: uint8 `(height, width, channels)`, upright, scaled and cropped as the signature says.
        is_exact: Whether every value must be equal, because PNG is lossless.
    """

    path: str
    content: bytes
    pixels: NDArray[np.uint8]
    is_exact: bool

    def tolerance(self) -> dict[str, float]:
        """The allowed difference, in levels of 0 to 255."""
        if self.is_exact:
            return {"max_levels": 0, "max_mean_levels": 0}
        return {"max_levels": MAX_LEVELS, "max_mean_levels": MAX_MEAN_LEVELS}


def draw_reference_images(signature: Signature) -> list[ReferenceImage]:
    """A PNG, a PNG with transparency, a JPEG, and a rotated JPEG with its EXIF orientation.

    An app applies the EXIF orientation of a photo, and drops the alpha channel.
    """
    side_px = signature.preprocess.shorter_side_px or 0
    width, height = (
        math.ceil(LARGER * max(side, side_px)) + odd for side, odd in ((signature.width, 5), (signature.height, 2))
    )
    picture = _draw(width, height)
    opaque, turned = picture.convert("RGB"), picture.convert("RGB").transpose(Image.Transpose.ROTATE_90)
    return [
        _reference_image("card.png", _encode(opaque, "PNG"), signature, is_exact=True),
        _reference_image("transparent.png", _encode(picture, "PNG"), signature, is_exact=True),
        _reference_image("card.jpg", _encode(opaque, "JPEG"), signature, is_exact=False),
        _reference_image("turned.jpg", _encode(turned, "JPEG", QUARTER_TURN), signature, is_exact=False),
    ]


def _draw(width: int, height: int) -> Image.Image:
    """Gradients in red and green, rings in blue, and alpha from 0 to 255."""
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    rings = 0.5 + 0.5 * np.cos(24 * np.hypot(across - 0.4, down - 0.6))
    planes = np.stack([across, down, rings, np.abs(2 * across - 1)], axis=-1)
    return Image.fromarray(np.rint(255 * planes).astype(np.uint8), "RGBA")


def _encode(picture: Image.Image, file_format: str, orientation: int = UPRIGHT) -> bytes:
    stream = io.BytesIO()
    options: dict[str, Any] = {"quality": 90} if file_format == "JPEG" else {"optimize": True}
    if orientation != UPRIGHT:
        options["exif"] = Image.Exif()
        options["exif"][EXIF_ORIENTATION] = orientation
    picture.save(stream, file_format, **options)
    return stream.getvalue()


def _reference_image(path: str, content: bytes, signature: Signature, *, is_exact: bool) -> ReferenceImage:
    with Image.open(io.BytesIO(content)) as picture:
        pixels = prepare(ImageOps.exif_transpose(picture), signature, in_one_step=False)
    return ReferenceImage(path, content, pixels, is_exact)
