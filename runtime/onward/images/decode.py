"""Decode: an image file becomes the pixels that a signature describes, with Pillow."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from onward.errors import ImageError
from onward.images import heif
from onward.images.room import claim_room, one_image
from onward.signature import Signature

__all__ = [
    "DECODING_ERRORS",
    "IMAGE_SUFFIXES",
    "Decoded",
    "check_levels",
    "decode",
    "has_16_bits",
    "open_image",
    "orientation_of",
    "prepare",
    "read_image",
    "resize",
]

IMAGE_SUFFIXES = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
) | (heif.HEIF_SUFFIXES if heif.is_installed() else frozenset())
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
#: Pillow opens grey images of 16 bits in its 32-bit mode where these formats hold them.
WIDENED_FORMATS = ("PNG", "PPM")
#: TIFF's tag that says what 0 stands for, and its value for white.
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
EXIF_ORIENTATION = 0x0112
#: How to turn an image upright, by its orientation. Source: EXIF 2.32, tag 274.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Decoded(NamedTuple):
    """A decoded image, RGB or grey, and whether its file has 16 bits per value, of which the higher 8 are kept."""

    image: Image.Image
    has_16_bits: bool


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
    with one_image():
        return resize(decode(source, signature).image, signature)


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


def decode(source: Path | bytes, signature: Signature) -> Decoded:
    """Decode one image and convert it to RGB or grey.

    Colours are converted as by torchvision's `ImageFolder`: Pillow's `convert`. Of 16 bits the higher 8 are kept. The
    image is turned by its EXIF orientation if the signature says so, alpha is dropped, and of an animation the first
    frame is read. docs/predict.md lists every kind of image.

    Args:
        source: A path, or the bytes of an image file.
        signature: Gives the number of channels, and whether images are turned.

    Raises:
        ImageError: It is not an image, is damaged, has more pixels than Pillow allows, or has values without a stated
            range.
    """
    try:
        with open_image(io.BytesIO(source if isinstance(source, bytes) else source.read_bytes())) as image:
            claim_room(image.width * image.height)
            is_deep = has_16_bits(image)
            return Decoded(_convert(image, signature), is_deep)
    except UnidentifiedImageError as error:
        raise ImageError("not an image: Pillow recognises no format in its content") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(f"too large: {error}") from error
    except DECODING_ERRORS as error:
        raise ImageError(f"cannot be decoded: {error}") from error


def open_image(file: BinaryIO) -> Image.Image:
    """Open an image file with Pillow, or with pillow-heif where that is needed; nothing is decoded yet.

    Raises:
        UnidentifiedImageError: It is not an image.
    """
    try:
        return Image.open(file)
    except UnidentifiedImageError:
        # Pillow loads its rarer formats when it first meets one; meanwhile it recognises none of them in other
        # threads.
        Image.init()
        heif.register()
        file.seek(0)
        return Image.open(file)


def check_levels(image: Image.Image) -> None:
    """Check that the file says which values are black and white.

    Raises:
        ImageError: Its values are floats, or integers that are signed or have 32 bits.
    """
    if image.mode == "F" or (image.mode == "I" and image.format not in WIDENED_FORMATS):
        raise ImageError(
            "its values are floating-point, signed or 32-bit numbers, which have no stated black and white: convert "
            "it to 8 or 16 bits"
        )


def has_16_bits(image: Image.Image) -> bool:
    """Whether an opened image that is not loaded yet has more than 8 bits per value; Pillow narrows colours itself."""
    is_deep = any(";16" in mode and not mode.startswith("BGR") for mode in _modes(image))
    return is_deep or (image.mode == "I" and image.format in WIDENED_FORMATS)


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8: 1 where there is none, or where it cannot be read, as viewers and browsers do."""
    try:
        found = image.getexif().get(EXIF_ORIENTATION, 1)
    except DECODING_ERRORS:
        return 1
    return found if found in TURNS else 1


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


def _convert(image: Image.Image, signature: Signature) -> Image.Image:
    if Image.MAX_IMAGE_PIXELS is not None and image.width * image.height > Image.MAX_IMAGE_PIXELS:
        raise ImageError(f"too large: {image.width}×{image.height} pixels, at most {Image.MAX_IMAGE_PIXELS:,}")
    num_bits = 12 if "I;12" in _modes(image) else 16
    try:
        image.load()
        # AVIF's own rotation, which Pillow reports as an orientation, is a part of its decoding
        is_turned = signature.preprocess.exif == "apply" or image.format == "AVIF"
        turn = TURNS.get(orientation_of(image)) if is_turned else None
        converted = _to_8_bits(image, num_bits).convert("RGB" if signature.channels == 3 else "L")
        return converted if turn is None else converted.transpose(turn)
    except DECODING_ERRORS as error:
        raise ImageError(f"cannot be decoded: {error}") from error


def _to_8_bits(image: Image.Image, num_bits: int) -> Image.Image:
    """The higher 8 bits of grey values of 16 or 12 bits, as Pillow keeps them of colours; Pillow would clip at 255.

    Args:
        image: Any mode; others than those are unchanged.
        num_bits: 16 or 12.

    Raises:
        ImageError: As for `check_levels`.
    """
    check_levels(image)
    if not image.mode.startswith("I"):
        return image
    levels = np.asarray(image)
    if getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO:  # Pillow inverts 8 bits, but not 16
        levels = (1 << num_bits) - 1 - levels
    return Image.fromarray((levels >> num_bits - 8).astype(np.uint8))


def _modes(image: Image.Image) -> list[str]:
    """Pillow's mode of an image, and those in which its file holds the values; of a loaded image only the first."""
    arguments = [tile[3] for tile in getattr(image, "tile", ())]
    found = [part for item in arguments for part in (item if isinstance(item, tuple) else (item,))]
    return [image.mode, *(part for part in found if isinstance(part, str))]


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
