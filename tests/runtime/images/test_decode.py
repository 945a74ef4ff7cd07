from __future__ import annotations

import io
import os
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

from onward.errors import ImageError
from onward.images.decode import IMAGE_SUFFIXES, prepare, read_image
from onward.signature import Preprocess, Signature
from tests.needs import needs_torch

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


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I", "F"])
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
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_colours_are_converted_as_torchvisions_loader_does(mode: str, tmp_path: Path) -> None:
    from torchvision.datasets.folder import pil_loader

    path = tmp_path / "image.tiff" if mode in ("CMYK", "YCbCr", "I;16", "I", "F") else tmp_path / "image.png"
    if mode == "I;16":
        image = Image.fromarray(np.linspace(0, 65535, 48).astype(np.uint16).reshape(8, 6))
    else:
        image = Image.fromarray(gradient(8, 6)).convert("RGBA" if mode in ("LA", "PA") else mode)
        if mode in ("LA", "RGBA"):
            image.putalpha(Image.linear_gradient("L").resize((6, 8)))
        image = image.convert(mode) if mode in ("LA", "PA") and mode != "PA" else image
    image.save(path)
    np.testing.assert_array_equal(read_image(path, RGB), np.asarray(pil_loader(str(path))))


def test_the_exif_orientation_is_not_applied_as_by_torchvisions_loader(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # the camera lay on its side
    Image.fromarray(gradient(8, 6)).save(tmp_path / "x.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "x.png", RGB), gradient(8, 6))


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
