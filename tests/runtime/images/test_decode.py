from __future__ import annotations

import io
import os
import threading
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image, ImageOps, features

from onward.errors import ImageError
from onward.images import heif
from onward.images.decode import IMAGE_SUFFIXES, decode, prepare, read_image
from onward.signature import Preprocess, Signature
from tests.image_files import encode as encode_image
from tests.image_files import exif_of, png_of_16_bits, tiff_of_16_bits
from tests.needs import HAS_PILLOW_13, needs_torch

YCBCR = pytest.param(
    "YCbCr", marks=pytest.mark.skipif(not HAS_PILLOW_13, reason="Pillow before 13 cannot read the TIFF that it writes")
)
LABELS = ("a", "b")
GREY = Signature(8, 6, 1, (0.5,), (0.5,), LABELS)
RGB = Signature(8, 6, 3, (0.5,) * 3, (0.5,) * 3, LABELS)
CROP = Signature(
    4, 4, 1, (0.5,), (0.5,), LABELS, Preprocess(resize="shorter-side", shorter_side_px=8, interpolation="nearest")
)
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
LAW = settings(max_examples=60, deadline=None)


def encode(pixels: NDArray[np.uint8], format: str = "PNG") -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, format)
    return data.getvalue()


def gradient(height: int = 32, width: int = 24) -> NDArray[np.uint8]:
    return np.linspace(0, 255, height * width * 3).astype(np.uint8).reshape(height, width, 3)


@LAW
@given(arrays(np.uint8, (8, 6)))
def test_grey_pixels_of_the_right_size_arrive_unchanged(pixels: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(read_image(encode(pixels), GREY), pixels[..., None])


@LAW
@given(arrays(np.uint8, (8, 6, 3)))
def test_rgb_pixels_of_the_right_size_arrive_unchanged(pixels: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(read_image(encode(pixels), RGB), pixels)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16"])
@pytest.mark.parametrize("signature", [GREY, RGB], ids=["grey", "rgb"])
def test_every_colour_mode_becomes_the_shape_of_the_signature(mode: str, signature: Signature) -> None:
    pixels = prepare(Image.new(mode, (31, 17)), signature)
    assert (pixels.dtype, pixels.shape) == (np.uint8, signature.image_shape)


@LAW
@given(st.integers(1, 60), st.integers(1, 60), st.sampled_from([GREY, RGB, CROP]))
def test_every_size_becomes_the_shape_of_the_signature(height: int, width: int, signature: Signature) -> None:
    assert prepare(Image.new("L", (width, height), 200), signature).shape == signature.image_shape


def test_the_shorter_side_rule_keeps_proportions_and_takes_the_centre() -> None:
    rows, columns = np.indices((8, 16))
    pixels = (rows * 16 + columns).astype(np.uint8)  # the shorter side has 8 pixels already: only the crop is left
    np.testing.assert_array_equal(read_image(encode(pixels), CROP)[..., 0], pixels[2:6, 6:10])


@needs_torch
@settings(max_examples=80, deadline=None)
@given(
    st.integers(20, 400),
    st.integers(20, 400),
    st.sampled_from([(32, 28), (64, 64), (40, 39)]),
    st.sampled_from(["bilinear", "bicubic"]),
    st.sampled_from(["china.jpg", "flower.jpg"]),
)
def test_scaling_and_cropping_is_within_one_level_of_torchvisions(
    height: int, width: int, sizes: tuple[int, int], interpolation: str, photograph: str
) -> None:
    """On photographs of all sizes, compared with torchvision's two transforms on Pillow images."""
    from sklearn.datasets import load_sample_image
    from torchvision import transforms

    shorter, size = sizes
    image = Image.fromarray(load_sample_image(photograph)).crop((100, 10, 100 + width, 10 + height))
    rule = Preprocess("shorter-side", shorter, interpolation)
    found = prepare(image, Signature(size, size, 3, (0.5,) * 3, (0.5,) * 3, LABELS, rule))
    resize = transforms.Resize(shorter, transforms.InterpolationMode(interpolation))
    expected = np.asarray(transforms.CenterCrop(size)(resize(image)))
    assert np.abs(found.astype(int) - expected).max() <= 1


@needs_torch
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", YCBCR])
def test_colours_are_converted_as_torchvisions_loader_does(mode: str, tmp_path: Path) -> None:
    from torchvision.datasets.folder import pil_loader

    path = tmp_path / "image.tiff" if mode in ("CMYK", "YCbCr") else tmp_path / "image.png"
    image = Image.fromarray(gradient(8, 6)).convert("RGBA" if mode in ("LA", "PA") else mode)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.linear_gradient("L").resize((6, 8)))
    image = image.convert(mode) if mode in ("LA", "PA") and mode != "PA" else image
    image.save(path)
    np.testing.assert_array_equal(read_image(path, RGB), np.asarray(pil_loader(str(path))))


LEVELS = np.random.default_rng(3).integers(0, 65536, (8, 6, 4))
DEEP = {
    "grey PNG": (png_of_16_bits(LEVELS[..., :1]), LEVELS[..., :1]),
    "grey PNG with alpha": (png_of_16_bits(LEVELS[..., :2]), LEVELS[..., :1]),
    "RGB PNG": (png_of_16_bits(LEVELS[..., :3]), LEVELS[..., :3]),
    "RGBA PNG": (png_of_16_bits(LEVELS), LEVELS[..., :3]),
    "grey TIFF": (tiff_of_16_bits(LEVELS[..., :1], 1), LEVELS[..., :1]),
    "grey TIFF, 0 is white": (tiff_of_16_bits(65535 - LEVELS[..., :1], 0), LEVELS[..., :1]),
    "compressed TIFF": (
        encode_image(Image.fromarray(LEVELS[..., 0].astype(np.uint16)), "TIFF", compression="tiff_deflate"),
        LEVELS[..., :1],
    ),
    "RGB TIFF": (tiff_of_16_bits(LEVELS[..., :3], 2), LEVELS[..., :3]),
    "PGM": (b"P5 6 8 65535\n" + LEVELS[..., 0].astype(">u2").tobytes(), LEVELS[..., :1]),
}


@pytest.mark.parametrize("kind", DEEP)
def test_of_16_bits_the_higher_8_are_kept_in_every_format(kind: str) -> None:
    """Pillow clips grey at 255, and keeps the higher 8 bits of colours."""
    data, levels = DEEP[kind]
    found = decode(data, RGB)
    assert found.has_16_bits
    np.testing.assert_array_equal(np.asarray(found.image), np.broadcast_to(levels >> 8, (8, 6, 3)))
    if levels.shape[2] == 1:
        np.testing.assert_array_equal(read_image(data, GREY), levels >> 8)


@pytest.mark.parametrize("format", FORMATS)
def test_8_bits_are_not_counted_as_16(format: str) -> None:
    assert not decode(encode(gradient(), format), RGB).has_16_bits


def test_a_12_bit_tiff_keeps_the_higher_8_of_its_12_bits() -> None:
    packed = bytearray(tiff_of_16_bits(np.zeros((1, 2, 1), np.uint16), 1))
    packed[packed.index(b"\x02\x01\x03\x00\x01\x00\x00\x00\x10") + 8] = 12  # tag 258, one short: bits
    packed[-4:] = b"\xab\xcd\xef\x00"  # the values 0xABC and 0xDEF
    assert np.asarray(decode(bytes(packed), GREY).image).tolist() == [[0xAB, 0xDE]]


@pytest.mark.parametrize(
    "data",
    [
        encode_image(Image.fromarray(np.full((8, 6), 0.5, np.float32)), "TIFF"),
        encode_image(Image.fromarray(np.full((8, 6), 70_000, np.int32)), "TIFF"),
        tiff_of_16_bits(LEVELS[..., :1], 1, signed=True),
    ],
    ids=["float", "32 bits", "signed"],
)
def test_values_without_a_black_and_a_white_are_refused(data: bytes) -> None:
    with pytest.raises(ImageError, match="no stated black and white: convert it to 8 or 16 bits"):
        read_image(data, GREY)
    with Image.open(io.BytesIO(data)) as image, pytest.raises(ImageError, match="no stated black and white"):
        prepare(image, GREY)


@needs_torch
def test_the_exif_orientation_is_not_applied_as_by_torchvisions_loader(tmp_path: Path) -> None:
    from torchvision.datasets.folder import pil_loader

    Image.fromarray(gradient(8, 6)).save(tmp_path / "x.png", exif=exif_of(6))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", RGB), gradient(8, 6))
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", RGB), np.asarray(pil_loader(str(tmp_path / "x.png"))))


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("format", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_a_signature_says_whether_the_exif_orientation_is_applied(format: str, orientation: int) -> None:
    stored = Image.fromarray(gradient(8, 8))
    options = {"lossless": True} if format == "WEBP" else {}
    data = encode_image(stored, format, exif=exif_of(orientation), **options)
    square = replace(RGB, width=8)
    with Image.open(io.BytesIO(data)) as image:
        as_stored = np.asarray(image.convert("RGB"))
    with Image.open(io.BytesIO(data)) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    np.testing.assert_array_equal(read_image(data, square), as_stored)
    np.testing.assert_array_equal(read_image(data, square.with_exif("apply")), upright)
    assert format == "TIFF" or (orientation in range(2, 9)) == (upright.tolist() != as_stored.tolist())


def test_a_pillow_image_is_turned_as_its_file_would_be() -> None:
    with Image.open(io.BytesIO(encode_image(Image.fromarray(gradient(6, 8)), exif=exif_of(6)))) as image:
        expected = np.rot90(gradient(6, 8), -1)
        np.testing.assert_array_equal(prepare(image, RGB.with_exif("apply")), expected)
        assert image.getexif()[274] == 6, "the caller's image is unchanged"


def test_a_damaged_exif_does_not_turn_an_image() -> None:
    data = encode_image(Image.fromarray(gradient(8, 6)), "JPEG", exif=exif_of(6))
    at = data.index(b"Exif\0\0")
    damaged = data[: at + 6] + bytes(8) + data[at + 14 :]
    np.testing.assert_array_equal(read_image(damaged, RGB.with_exif("apply")), read_image(damaged, RGB))


@pytest.mark.skipif("avif" not in features.get_supported(), reason="this Pillow has no AVIF")
@pytest.mark.parametrize("exif", ["ignore", "apply"])
def test_avifs_own_rotation_is_a_part_of_its_decoding(exif: str) -> None:
    """Browsers, libvips and libheif cannot leave it out; Pillow reports it as an EXIF orientation."""
    picture = Image.fromarray(np.repeat(np.uint8([[200, 30], [30, 30]]), 32, 0).repeat(32, 1)).convert("RGB")
    found = read_image(encode_image(picture, "AVIF", exif=exif_of(6)), replace(GREY, width=8).with_exif(exif))[..., 0]
    assert (found[0, -1] > 150, found[0, 0] < 100, found[-1, -1] < 100) == (True, True, True)


@pytest.mark.skipif(not heif.is_installed(), reason="pillow-heif is not installed: pip install 'onward[heif]'")
def test_a_heic_photograph_is_read(tmp_path: Path) -> None:
    heif.register()
    path = tmp_path / "photograph.heic"
    Image.new("RGB", (64, 48), (200, 10, 10)).save(path, "HEIF")
    assert path.suffix in IMAGE_SUFFIXES
    np.testing.assert_allclose(read_image(path, RGB)[4, 3], (200, 10, 10), atol=12)


def test_the_usual_suffixes_of_photographs_are_images() -> None:
    assert {".avif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".webp"} <= IMAGE_SUFFIXES
    assert heif.is_installed() == (heif.HEIF_SUFFIXES <= IMAGE_SUFFIXES)


def test_a_long_thin_image_is_not_scaled_as_a_whole() -> None:
    """1×30,000 pixels would be 256×7,680,000 of them, of which the crop keeps 224."""
    rule = Preprocess("shorter-side", 256)
    signature = Signature(224, 224, 1, (0.5,), (0.5,), LABELS, rule)
    assert prepare(Image.new("L", (30_000, 1), 77), signature).min() == 77


def test_stretch_scales_both_sides() -> None:
    pixels = np.repeat(np.repeat(np.arange(48, dtype=np.uint8).reshape(8, 6), 3, 0), 5, 1)
    nearest = Signature(8, 6, 1, (0.5,), (0.5,), LABELS, Preprocess(interpolation="nearest"))
    np.testing.assert_array_equal(read_image(encode(pixels), nearest)[..., 0], pixels[::3, ::5])


@pytest.mark.parametrize("format", FORMATS)
def test_a_path_and_its_bytes_give_the_same(format: str, tmp_path: Path) -> None:
    path = tmp_path / f"image.{format.lower()}"
    path.write_bytes(encode(gradient(), format))
    assert path.suffix in IMAGE_SUFFIXES
    np.testing.assert_array_equal(read_image(path, RGB), read_image(path.read_bytes(), RGB))


def test_of_an_animation_the_first_frame_is_read() -> None:
    data = io.BytesIO()
    frames = [Image.new("L", (6, 8), value) for value in (10, 200)]
    frames[0].save(data, "GIF", save_all=True, append_images=frames[1:])
    assert read_image(data.getvalue(), GREY).max() == 10


@pytest.mark.parametrize("content", [b"", b"not an image at all", b"GIF89a", bytes(1000)])
def test_what_is_no_image_says_so(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "text.png"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(ImageError):
            read_image(source, GREY)


def test_a_missing_file_and_a_folder_are_image_errors(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.png"):
        with pytest.raises(ImageError, match="cannot be decoded"):
            read_image(path, GREY)


@pytest.mark.parametrize("format", ["GIF", "JPEG", "PNG", "TIFF", "WEBP"])
def test_an_image_cut_in_half_is_an_image_error(format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = encode(noise, format)
    with pytest.raises(ImageError):
        read_image(data[: len(data) // 2], RGB)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of damaged metadata
@settings(max_examples=400, deadline=None)
@given(st.sampled_from(FORMATS), st.data())
def test_a_damaged_image_is_an_image_error_or_an_image(format: str, data: st.DataObject) -> None:
    damaged = bytearray(encode(gradient(), format))
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, min(len(damaged) - 1, 400)))] = data.draw(st.integers(0, 255))
    try:
        assert read_image(bytes(damaged), RGB).shape == RGB.image_shape
    except ImageError:
        pass


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # our own limit refuses first
@pytest.mark.parametrize("num_pixels_over", [1.5, 3])
def test_an_image_of_too_many_pixels_is_refused(num_pixels_over: float) -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    side = int((Image.MAX_IMAGE_PIXELS * num_pixels_over) ** 0.5)
    data = io.BytesIO()
    Image.new("1", (side, side)).save(data, "PNG")
    with pytest.raises(ImageError, match="too large"):
        read_image(data.getvalue(), GREY)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="holds readers up with named pipes, which Windows lacks")
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # Pillow leaves a pipe open once it has read it
def test_reading_in_several_threads_leaves_the_warning_filters_alone(tmp_path: Path) -> None:
    before = list(warnings.filters)
    pipes = [tmp_path / "one.png", tmp_path / "two.png"]
    readers = [threading.Thread(target=_read_quietly, args=(pipe,)) for pipe in pipes]
    try:
        writers = []
        for pipe, reader in zip(pipes, readers, strict=True):
            os.mkfifo(pipe)
            reader.start()
            writers.append(pipe.open("wb"))  # returns when the reader is in the middle of opening it
        for writer, reader in zip(writers, readers, strict=True):  # first in, first out: they overlap
            writer.close()
            reader.join()
        assert warnings.filters == before
    finally:
        warnings.filters[:] = before


def _read_quietly(path: Path) -> None:
    try:
        read_image(path, GREY)
    except ImageError:
        pass
