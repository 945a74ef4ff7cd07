"""Golden samples: the golden record of a bundle and reference images, in files that any language can read.

golden.json lists what there is. Every array is a raw file: little-endian, C order. The outputs of the machine that
built the bundle are not included, because an app computes its own noise ratio; only a model of lower precision is
compared with them.
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
from PIL import Image

from onward.bundle import Artifact, Bundle
from onward.bundle.lower_precision_record import LowerPrecisionRecord
from onward.images.decode import prepare
from onward.lower_precision import MAX_DEVIATION_RATIO
from onward.parity import ASSERT_CLOSE_ATOL, ASSERT_CLOSE_RTOL, BATCH_SIZES, MAX_NOISE_RATIO, MAX_RELATIVE_ERROR
from onward.signature import Signature, of_images

__all__ = ["ReferenceImage", "draw_reference_images", "write_golden_samples"]

FORMAT = 1


def write_golden_samples(bundle: Bundle, artifact: Artifact, folder: Path) -> None:
    """Write golden.json, its arrays and the reference images.

    Args:
        bundle: The bundle of a model that takes images.
        artifact: The one that the app runs.
        folder: A new folder.
    """
    folder.mkdir(parents=True)
    golden, signature = bundle.golden(), of_images(bundle.signature)
    record = None if artifact.is_float32 else LowerPrecisionRecord.read(bundle, artifact)
    kinds = {}
    for kind, images in golden.inputs.items():
        outputs: dict[str, dict[str, Any]]
        if record is None:
            outputs = {
                output: {
                    "reference": _write_array(folder, f"{kind}.{output}.bin", reference),
                    "noise": asdict(golden.noise[kind][output]),
                }
                for output, reference in golden.reference[kind].items()
            }
        else:
            outputs = {
                output: {
                    "recorded": _write_array(folder, f"{kind}.{output}.bin", recorded),
                    "quantization_error": record.errors[kind][output],
                }
                for output, recorded in record.recorded[kind].items()
            }
        images = np.asarray(images)
        kinds[kind] = {
            "num_samples": len(images),
            "input": _write_array(folder, f"{kind}.input.bin", images),
            "outputs": outputs,
        }
    images_to_decode = []
    for image in draw_reference_images(signature):
        (folder / image.path).write_bytes(image.content)
        pixels = _write_array(folder, f"{image.path}.bin", image.pixels)
        images_to_decode.append({"path": image.path, "pixels": pixels} | image.tolerance())
    document = {
        "format": FORMAT,
        "max_noise_ratio": MAX_NOISE_RATIO,
        "max_relative_error": MAX_RELATIVE_ERROR,
        "batch_sizes": list(BATCH_SIZES),
        "assert_close": {"rtol": ASSERT_CLOSE_RTOL, "atol": ASSERT_CLOSE_ATOL},
        "kinds": kinds,
        "cards": images_to_decode,
    }
    if record is not None:
        document |= {"precision": artifact.precision, "max_deviation_ratio": MAX_DEVIATION_RATIO}
    (folder / "golden.json").write_text(json.dumps(document, indent=2) + "\n")


def _write_array(folder: Path, name: str, array: NDArray[Any]) -> dict[str, Any]:
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    (folder / name).write_bytes(little.tobytes())
    return {"path": name, "dtype": array.dtype.name, "shape": list(array.shape)}


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
        pixels: uint8 `(height, width, channels)`, turned, scaled and cropped as the signature says.
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
    """A PNG, one with transparency, one of 16 bits, a JPEG, and a rotated JPEG with its EXIF orientation.

    With them an app compares its decoder and scaling with Pillow's. They are separate from parity: JPEG decoders may
    differ by a few levels, which must not change a noise ratio. An app applies or ignores the EXIF orientation as the
    signature says, drops the alpha channel, and keeps the higher 8 of 16 bits.
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
        _reference_image("deep.png", _encode(_draw_deep(width, height), "PNG"), signature, is_exact=True),
        _reference_image("card.jpg", _encode(opaque, "JPEG"), signature, is_exact=False),
        _reference_image("turned.jpg", _encode(turned, "JPEG", QUARTER_TURN), signature, is_exact=False),
    ]


def _draw(width: int, height: int) -> Image.Image:
    """Gradients in red and green, rings in blue, and alpha from 0 to 255."""
    across, down = np.meshgrid(np.linspace(0, 1, width), np.linspace(0, 1, height))
    rings = 0.5 + 0.5 * np.cos(24 * np.hypot(across - 0.4, down - 0.6))
    planes = np.stack([across, down, rings, np.abs(2 * across - 1)], axis=-1)
    return Image.fromarray(np.rint(255 * planes).astype(np.uint8), "RGBA")


def _draw_deep(width: int, height: int) -> Image.Image:
    """A grey slope through all values of 16 bits."""
    return Image.fromarray(np.linspace(0, 65535, width * height).astype(np.uint16).reshape(height, width))


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
        pixels = prepare(picture, signature, in_one_step=False)
    return ReferenceImage(path, content, pixels, is_exact)
