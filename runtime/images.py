"""Images: decoded with Pillow to the pixels that a signature asks for."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from runtime.errors import ImageError
from runtime.signature import Signature

__all__ = ["IMAGE_SUFFIXES", "prepare", "read_image"]

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
#: What Pillow's decoders raise on damaged files.
DECODING_ERRORS = (OSError, ValueError, SyntaxError, EOFError, struct.error)
RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def read_image(source: Path | bytes, signature: Signature) -> NDArray[np.uint8]:
    """Decode one image and prepare it.

    The colour is converted as torchvision's `ImageFolder` does it: Pillow's `convert`, to RGB or to grey; the
    EXIF orientation is not applied. Of an animation the first frame is read.

    Args:
        source: A path, or the bytes of an image file.
        signature: Size, channels and resize rule.

    Returns:
        uint8 `(height, width, channels)`.

    Raises:
        ImageError: It is no image, is damaged, or has too many pixels (Pillow's bound).
    """
    try:
        with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
            return prepare(image, signature)
    except UnidentifiedImageError as error:
        raise ImageError("no image: its content is of no format that Pillow knows") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"too large: {error}") from error
    except DECODING_ERRORS as error:
        raise ImageError(f"cannot be decoded: {error}") from error


def prepare(image: Image.Image, signature: Signature) -> NDArray[np.uint8]:
    """Convert, resize and crop a Pillow image to uint8 `(height, width, channels)`.

    Raises:
        ImageError: It is damaged, or has too many pixels (Pillow's bound, at which it only warns).
    """
    if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise ImageError(f"too large: {image.width}×{image.height} pixels, at most {Image.MAX_IMAGE_PIXELS:,}")
    try:
        image = image.convert("RGB" if signature.channels == 3 else "L")
    except DECODING_ERRORS as error:
        raise ImageError(f"cannot be decoded: {error}") from error
    size = (signature.width, signature.height)
    rule = signature.preprocess
    resample = RESAMPLING[rule.interpolation]
    if rule.shorter_side_px is not None:
        scale = rule.shorter_side_px / min(image.size)
        image = image.resize((round(image.width * scale), round(image.height * scale)), resample)
        left, top = (image.width - size[0]) // 2, (image.height - size[1]) // 2
        image = image.crop((left, top, left + size[0], top + size[1]))
    elif image.size != size:
        image = image.resize(size, resample)
    return np.asarray(image, np.uint8).reshape(signature.image_shape)
