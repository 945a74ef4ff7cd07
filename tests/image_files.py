"""Image files that Pillow does not write."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

__all__ = ["ORIENTATION", "encode", "exif_of", "png_of_16_bits", "tiff_of_16_bits"]

ORIENTATION = 0x0112


def encode(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, file_format, **options)
    return stream.getvalue()


def exif_of(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def png_of_16_bits(levels: NDArray[np.integer[Any]]) -> bytes:
    """Grey, grey with alpha, RGB or RGBA, by the number of channels. Source: PNG, section 11."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = levels.shape
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff_of_16_bits(levels: NDArray[np.integer[Any]], photometric: int, *, signed: bool = False) -> bytes:
    """One strip, not compressed. Source: TIFF 6.0, section 2.

    Args:
        levels: `(height, width, channels)`.
        photometric: 0: grey, where 0 is white; 1: grey; 2: RGB; 5: CMYK.
        signed: What the file says of its numbers.
    """
    height, width, channels = levels.shape
    data = levels.astype("<u2").tobytes()
    bits = struct.pack(f"<{channels}H", *[16] * channels)
    tags = {
        256: width, 257: height, 258: None, 259: 1, 262: photometric, 273: None, 277: channels, 278: height,
        279: len(data), 284: 1, 339: 2 if signed else 1,
    }  # fmt: skip
    behind = 8 + 2 + 12 * len(tags) + 4
    entries = b""
    for tag, value in tags.items():
        if tag == 258:
            field = struct.pack("<I", behind) if channels > 2 else bits.ljust(4, b"\0")
            entries += struct.pack("<HHI", tag, 3, channels) + field
        else:
            entries += struct.pack("<HHII", tag, 4, 1, behind + len(bits) if value is None else value)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + bits + data
