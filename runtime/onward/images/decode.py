"""Images: decoded with Pillow to the pixels that a signature asks for."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from onward.errors import ImageError
from onward.signature import Signature

__all__ = ["DECODING_ERRORS", "IMAGE_SUFFIXES", "decode", "prepare", "read_image", "resize"]

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"})
#: What Pillow's decoders raise on damaged files.
DECODING_ERRORS = (OSError, ValueError, SyntaxError, EOFError, struct.error)
RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
#: Of crops of photographs that shrink by this or more, 7 of 10¹⁰ values were 2 levels off where scaling and cropping is
#: done at once, all others 1 or none; of those that shrink less, 1 of 10⁷.
MIN_SHRINK = 1.4
#: So many times the pixels that are kept are not computed to be thrown away.
MANY_TIMES = 32


def read_image(source: Path | bytes, signature: Signature) -> NDArray[np.uint8]:
    """Decode one image and prepare it.

    Args:
        source: A path, or the bytes of an image file.
        signature: Size, channels and resize rule.

    Returns:
        uint8 `(height, width, channels)`.

    Raises:
        ImageError: It is no image, is damaged, or has too many pixels (Pillow's bound).
    """
    return resize(decode(source, signature), signature)


def prepare(image: Image.Image, signature: Signature, *, in_one_step: bool = True) -> NDArray[np.uint8]:
    """Convert, resize and crop a Pillow image to uint8 `(height, width, channels)`.

    Args:
        image: Of any mode and size.
        signature: Size, channels and resize rule.
        in_one_step: As `resize` takes it.

    Raises:
        ImageError: It is damaged, or has too many pixels (Pillow's bound, at which it only warns).
    """
    return resize(_convert(image, signature), signature, in_one_step=in_one_step)


def decode(source: Path | bytes, signature: Signature) -> Image.Image:
    """Decode one image in the colours that the signature asks for.

    The colour is converted as torchvision's `ImageFolder` does it: Pillow's `convert`, to RGB or to grey. The EXIF
    orientation is not applied; alpha is dropped; of an animation the first frame is read. docs/predict.md says what
    becomes of each kind of image.

    Args:
        source: A path, or the bytes of an image file.
        signature: Its channels.

    Raises:
        ImageError: It is no image, is damaged, or has too many pixels (Pillow's bound).
    """
    try:
        with _open(source if isinstance(source, bytes) else source.read_bytes()) as image:
            return _convert(image, signature)
    except UnidentifiedImageError as error:
        raise ImageError("no image: its content is of no format that Pillow knows") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"too large: {error}") from error
    except DECODING_ERRORS as error:
        raise ImageError(f"cannot be decoded: {error}") from error


def resize(image: Image.Image, signature: Signature, *, in_one_step: bool = True) -> NDArray[np.uint8]:
    """Bring an image to the signature's size: uint8 `(height, width, channels)`.

    Args:
        image: In the signature's colours, of any size.
        signature: Size and resize rule.
        in_one_step: Whether it may be scaled and cropped at once, where that is faster and within a level of 255.

    Raises:
        ImageError: It would have too many pixels on the way.
    """
    rule = signature.preprocess
    resample = RESAMPLING[rule.interpolation]
    size = (signature.width, signature.height)
    if rule.shorter_side_px is not None:
        image = _crop_centre(image, rule.shorter_side_px, size, resample, in_one_step)
    elif image.size != size:
        image = image.resize(size, resample)
    return np.asarray(image, np.uint8).reshape(signature.image_shape)


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        # Pillow loads its rarer formats when it first meets one; who asks in another thread meanwhile is told that
        # there are none.
        Image.init()
        return Image.open(io.BytesIO(data))


def _convert(image: Image.Image, signature: Signature) -> Image.Image:
    if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise ImageError(f"too large: {image.width}×{image.height} pixels, at most {Image.MAX_IMAGE_PIXELS:,}")
    try:
        return image.convert("RGB" if signature.channels == 3 else "L")
    except DECODING_ERRORS as error:
        raise ImageError(f"cannot be decoded: {error}") from error


def _crop_centre(
    image: Image.Image, shorter_side_px: int, size: tuple[int, int], resample: Image.Resampling, in_one_step: bool
) -> Image.Image:
    """Scale the shorter side, and crop the centre.

    Bilinear, of an image that shrinks enough, only the pixels that the crop keeps are computed: 1.7 times as fast for
    256 → 224, and within 1 level of doing one after the other. Where it shrinks less, or bicubic, some would be 2
    levels off, and the nearest pixel may be another one: there it is one after the other, but for bilinear crops that
    keep next to nothing of a long thin image.

    Source: torchvision, `Resize` and `CenterCrop`: how they round decides by how much of a pixel the crop is shifted.
    """
    shorter = min(image.size)
    width, height = (shorter_side_px * side // shorter for side in image.size)
    left, top = (round((scaled - cropped) / 2) for scaled, cropped in zip((width, height), size, strict=True))
    box = (left, top, left + size[0], top + size[1])
    is_worth_it = shorter >= MIN_SHRINK * shorter_side_px or width * height > MANY_TIMES * size[0] * size[1]
    if in_one_step and resample == Image.Resampling.BILINEAR and min(left, top) >= 0 and is_worth_it:
        across, down = image.width / width, image.height / height
        within = (box[0] * across, box[1] * down, min(box[2] * across, image.width), min(box[3] * down, image.height))
        return image.resize(size, resample, box=within)
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise ImageError(f"too large: {width}×{height} pixels once its shorter side has {shorter_side_px}")
    return image.resize((width, height), resample).crop(box)
