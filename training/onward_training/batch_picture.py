"""Batch picture: the first training batch as the network sees it, resized and augmented, with its labels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

__all__ = ["draw_batch"]

MAX_IMAGES, NUM_COLUMNS = 32, 8
#: Small images are enlarged by a whole number to about this side, large ones shrunk to it.
TILE_PX = 112
GAP_PX, LINE_PX, FONT_PX = 8, 18, 12
PAPER, INK = (255, 255, 255), (30, 30, 30)


def draw_batch(images: NDArray[np.uint8], labels: Sequence[str], title: str) -> Image.Image:
    """A picture of the first images of a batch.

    Args:
        images: uint8 `(batch, height, width, channels)`, as they are normalised next.
        labels: One for each image.
        title: The line above them.
    """
    count = min(len(images), MAX_IMAGES)
    width, height = _tile(images.shape[2], images.shape[1])
    num_columns = min(count, NUM_COLUMNS)
    num_rows = math.ceil(count / num_columns)
    font = _font()
    total = max(num_columns * (width + GAP_PX) + GAP_PX, math.ceil(font.getlength(_shown(title))) + 2 * GAP_PX)
    sheet = Image.new("RGB", (total, LINE_PX + GAP_PX + num_rows * (height + LINE_PX + GAP_PX)), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((GAP_PX, GAP_PX // 2), _shown(title), INK, font)
    for index in range(count):
        row, column = divmod(index, num_columns)
        left = GAP_PX + column * (width + GAP_PX)
        top = LINE_PX + GAP_PX + row * (height + LINE_PX + GAP_PX)
        sheet.paste(_picture(images[index]).resize((width, height), _filter(images.shape[2], width)), (left, top))
        pen.text((left, top + height + 1), _fitting(labels[index], width, font), INK, font)
    return sheet


def _tile(width: int, height: int) -> tuple[int, int]:
    longer = max(width, height)
    factor: float = TILE_PX // longer if longer <= TILE_PX else TILE_PX / longer
    return max(round(width * factor), 1), max(round(height * factor), 1)


def _filter(from_px: int, to_px: int) -> Image.Resampling:
    return Image.Resampling.NEAREST if to_px >= from_px else Image.Resampling.BILINEAR


def _picture(image: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).convert("RGB")


def _fitting(label: str, width: int, font: Any) -> str:
    text = _shown(label)
    length = len(text)
    while length > 1 and font.getlength(text[:length]) > width:
        length -= 1
    return text[:length]


def _shown(text: str) -> str:
    """The text in the characters that Pillow's own font has."""
    return text.encode("latin-1", "replace").decode("latin-1")


def _font() -> Any:
    try:
        return ImageFont.load_default(FONT_PX)
    except (TypeError, OSError, ImportError):  # Pillow 10.0, or one without FreeType
        return ImageFont.load_default()
