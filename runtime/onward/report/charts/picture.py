"""Picture: pixels become a data URI."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["picture"]


def picture(image: NDArray[np.uint8], *, max_side_px: int | None = None) -> str:
    """A uint8 `(height, width, channels)` image as a PNG data URI, made smaller where a side is longer than asked."""
    data = io.BytesIO()
    shown = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    if max_side_px is not None:
        shown.thumbnail((max_side_px, max_side_px), Image.Resampling.BOX)
    shown.save(data, "PNG")
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()
