"""PNG: an image as a data URI, so that a page holds it without a file."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["png_data_uri"]


def png_data_uri(image: NDArray[np.uint8], *, max_side_px: int | None = None) -> str:
    """Encode an image as a PNG data URI.

    Args:
        image: uint8 `(height, width, channels)`.
        max_side_px: A larger image is scaled down to this side length.
    """
    data = io.BytesIO()
    shown = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    if max_side_px is not None:
        shown.thumbnail((max_side_px, max_side_px), Image.Resampling.BOX)
    shown.save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
