"""Decode: an image file becomes the pixels that a signature describes, with Pillow."""

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
#: Errors of Pillow's decoders on damaged files.
DECODING_ERRORS = (OSError, ValueError, SyntaxError, EOFError, struct.error, TypeError, LookupError, ArithmeticError)
RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
#: Scaling and cropping in one step, measured on crops of photographs: if the image shrinks by this factor or more, 7 of
#: 10¹⁰ values were 2 levels off, all others 1 or 0; if it shrinks less, 1 of 10⁷ was 2 levels off.
MIN_SHRINK = 1.4
#: A crop that keeps less than one in so many pixels is computed in one step, whatever the image shrinks by.
MAX_DISCARDED = 32


def read_image(source: Path | bytes, signature: Signature) -> NDArray[np.uint8]:
    """Decode and resize one image.

    Args:
        source: A path, or the bytes of an image file.
        signature: Gives size, channels and resize rule.

    Returns:
        uint8 `(height, width, channels)`.

    Raises:
        ImageError: It is not an image, is damaged, or has more pixels than Pillow allows.
    """
    return resize(decode(source, signature), signature)


def prepare(image: Image.Image, signature: Signature, *, in_one_step: bool = True) -> NDArray[np.uint8]:
    """Convert, resize and crop a Pillow image to uint8 `(height, width, channels)`.

    Args:
        image: Any mode and size.
        signature: Gives size, channels and resize rule.
        in_one_step: As for `resize`.

    Raises:
        ImageError: It is damaged, or has more pixels than the limit at which Pillow warns.
    """
    return resize(_convert(image, signature), signature, in_one_step=in_one_step)


def decode(source: Path | bytes, signature: Signature) -> Image.Image:
    """Decode one image and convert it to RGB or grey.

    Colours are converted as by torchvision's `ImageFolder`: Pillow's `convert`. The EXIF orientation is not applied,
    alpha is dropped, and of an animation the first frame is read. docs/predict.md lists every kind of image.

    Args:
        source: A path, or the bytes of an image file.
        signature: Gives the number of channels.

    Raises:
        ImageError: It is not an image, is damaged, or has more pixels than Pillow allows.
    """
    try:
        with _open(source if isinstance(source, bytes) else source.read_bytes()) as image:
            return _convert(image, signature)
    except UnidentifiedImageError as error:
        raise ImageError("not an image: Pillow recognises no format in its content") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"too large: {error}") from error
    except DECODING_ERRORS as error:
        raise ImageError(f"cannot be decoded: {error}") from error


def resize(image: Image.Image, signature: Signature, *, in_one_step: bool = True) -> NDArray[np.uint8]:
    """Bring an image to the signature's size: uint8 `(height, width, channels)`.

    Args:
        image: RGB or grey, as the signature has it; any size.
        signature: Gives size and resize rule.
        in_one_step: Allow scaling and cropping in one step where that is faster and within 1 of 255 levels.

    Raises:
        ImageError: The scaled image would have too many pixels.
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
        # Pillow loads its rarer formats when it first meets one; meanwhile it recognises none of them in other
        # threads.
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
    """Scale the shorter side, then crop the centre.

    Bilinear and of an image that shrinks enough, both are one step that computes only the pixels of the crop: 1.7 times
    as fast for 256 → 224, and within 1 level of two steps. Otherwise there are two steps: in one step some values would
    be 2 levels off if the image shrinks less or the filter is bicubic, and `nearest` could take another pixel. The
    exception is a bilinear crop that keeps very little of a long thin image.

    Source: torchvision, `Resize` and `CenterCrop`: their rounding decides by what fraction of a pixel the crop shifts.
    """
    shorter = min(image.size)
    width, height = (shorter_side_px * side // shorter for side in image.size)
    left, top = (round((scaled - cropped) / 2) for scaled, cropped in zip((width, height), size, strict=True))
    box = (left, top, left + size[0], top + size[1])
    is_faster = shorter >= MIN_SHRINK * shorter_side_px or width * height > MAX_DISCARDED * size[0] * size[1]
    if in_one_step and resample == Image.Resampling.BILINEAR and min(left, top) >= 0 and is_faster:
        across, down = image.width / width, image.height / height
        within = (box[0] * across, box[1] * down, min(box[2] * across, image.width), min(box[3] * down, image.height))
        return image.resize(size, resample, box=within)
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise ImageError(f"too large: {width}×{height} pixels once its shorter side has {shorter_side_px}")
    return image.resize((width, height), resample).crop(box)
