"""Cards: image files with known pixels, by which an app compares its decoder and its scaling with Pillow's.

Apart from parity: decoders of JPEG may differ by a few levels, and no noise ratio should hide that or suffer by it.

Record: the golden record of a bundle, in files that any language reads.

golden.json says what there is; every array is a file of its own, raw, little-endian, in C order. What a model made of
its inputs on some machine is not among it: an app computes its own noise ratio.
"""

from __future__ import annotations

import io
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from onward.bundle import Bundle
from onward.images.decode import prepare
from onward.parity import ASSERT_CLOSE_ATOL, ASSERT_CLOSE_RTOL, BATCH_SIZES, MAX_NOISE_RATIO, MAX_RELATIVE_ERROR
from onward.signature import Signature, of_images

__all__ = ["Card", "draw_cards", "write_record"]


#: So much larger than what the model takes is a card: the scaling is compared, too.
LARGER = 1.3
#: Levels of 255 by which one value, and all values in the mean, may differ once a JPEG was decoded and scaled.
MAX_LEVELS, MAX_MEAN_LEVELS = 8, 1.0
UPRIGHT, QUARTER_TURN = 1, 6
EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Card:
    """An image file and what an app must make of it.

    Args:
        path: File name.
        content: PNG or JPEG.
        pixels: uint8 `(height, width, channels)`, upright, scaled and cropped as the signature says.
        is_exact: Whether every value must be the same: PNG loses nothing.
    """

    path: str
    content: bytes
    pixels: NDArray[np.uint8]
    is_exact: bool

    def tolerance(self) -> dict[str, float]:
        """By how many levels an app may differ."""
        if self.is_exact:
            return {"max_levels": 0, "max_mean_levels": 0}
        return {"max_levels": MAX_LEVELS, "max_mean_levels": MAX_MEAN_LEVELS}


def draw_cards(signature: Signature) -> list[Card]:
    """A PNG, a PNG with transparency, a JPEG, and a JPEG that lies on its side and says so.

    An app turns a photograph as its EXIF orientation says, and drops alpha, as `onward predict` does.
    """
    side_px = signature.preprocess.shorter_side_px or 0
    width, height = (
        math.ceil(LARGER * max(side, side_px)) + odd for side, odd in ((signature.width, 5), (signature.height, 2))
    )
    picture = _draw(width, height)
    opaque, turned = picture.convert("RGB"), picture.convert("RGB").transpose(Image.Transpose.ROTATE_90)
    return [
        _card("card.png", _encode(opaque, "PNG"), signature, is_exact=True),
        _card("transparent.png", _encode(picture, "PNG"), signature, is_exact=True),
        _card("card.jpg", _encode(opaque, "JPEG"), signature, is_exact=False),
        _card("turned.jpg", _encode(turned, "JPEG", QUARTER_TURN), signature, is_exact=False),
    ]


def _draw(width: int, height: int) -> Image.Image:
    """Slopes of red and green, rings of blue, and alpha from 0 to 255."""
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


def _card(path: str, content: bytes, signature: Signature, *, is_exact: bool) -> Card:
    with Image.open(io.BytesIO(content)) as picture:
        pixels = prepare(ImageOps.exif_transpose(picture), signature, in_one_step=False)
    return Card(path, content, pixels, is_exact)


FORMAT = 1


def write_record(bundle: Bundle, folder: Path) -> None:
    """Write golden.json, its arrays and the test cards.

    Args:
        bundle: Of a model that takes images.
        folder: Is made.
    """
    folder.mkdir(parents=True)
    golden, signature = bundle.golden(), of_images(bundle.signature)
    kinds = {}
    for kind, images in golden.inputs.items():
        outputs = {
            output: {
                "reference": _write_array(folder, f"{kind}.{output}.bin", reference),
                "noise": asdict(golden.noise[kind][output]),
            }
            for output, reference in golden.reference[kind].items()
        }
        images = np.asarray(images)
        kinds[kind] = {
            "num_samples": len(images),
            "input": _write_array(folder, f"{kind}.input.bin", images),
            "outputs": outputs,
        }
    cards = []
    for card in draw_cards(signature):
        (folder / card.path).write_bytes(card.content)
        pixels = _write_array(folder, f"{card.path}.bin", card.pixels)
        cards.append({"path": card.path, "pixels": pixels} | card.tolerance())
    document = {
        "format": FORMAT,
        "max_noise_ratio": MAX_NOISE_RATIO,
        "max_relative_error": MAX_RELATIVE_ERROR,
        "batch_sizes": list(BATCH_SIZES),
        "assert_close": {"rtol": ASSERT_CLOSE_RTOL, "atol": ASSERT_CLOSE_ATOL},
        "kinds": kinds,
        "cards": cards,
    }
    (folder / "golden.json").write_text(json.dumps(document, indent=2) + "\n")


def _write_array(folder: Path, name: str, array: NDArray[Any]) -> dict[str, Any]:
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    (folder / name).write_bytes(little.tobytes())
    return {"path": name, "dtype": array.dtype.name, "shape": list(array.shape)}
