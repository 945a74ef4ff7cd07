from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import PIL
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, features

import onward
from onward.bundle import Bundle
from onward.bundle.verification import verify
from onward.embedding import EmbedOptions, embed
from onward.images.decode import prepare, read_image
from onward.signature import Signature
from tests.bundles import DIGITS_INT8, path_of
from tests.bundles import HOSTILE_PYTHON as LABELS
from tests.image_files import encode, exif_of, png_of_16_bits, tiff_of_16_bits

#: By so many levels of 255 Onward's scaling and cropping at once differs from one after the other.
SHORTCUT_LEVELS = 1
PICTURES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "I;16"]
App = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def app(shared_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The app around the digits. Read it, do not change it."""
    folder = tmp_path_factory.mktemp("app") / "digits"
    embed(shared_bundle, "python", folder)
    return folder


@pytest.fixture(scope="module")
def colour() -> Bundle:
    """Its labels are hostile, its images are cropped, and the app normalises them."""
    return Bundle.open(path_of("colour"))


@pytest.fixture(scope="module")
def colour_app(colour: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("app") / "colour"
    embed(colour, "python", folder, EmbedOptions(title='</title>"""'))
    return folder


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> App:
    """Python with the app's three packages and nothing else: neither Onward nor PyTorch can be imported.

    Numpy, onnxruntime and Pillow are those of this environment: nothing is installed, and no network is needed.
    """
    site = tmp_path_factory.mktemp("site")
    for package in (np, onnxruntime, PIL):
        found = Path(str(package.__file__)).parent
        for path in (found, found.with_name(f"{found.name}.libs"), found.with_name("pillow.libs")):
            if path.exists() and not (site / path.name).exists():
                (site / path.name).symlink_to(path)

    def run(folder: Path, *arguments: object, code: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        # -S leaves out site-packages; the empty path is the working directory
        start = f"import sys; sys.path[:] = [{str(site)!r}, {str(folder)!r}, *filter(None, sys.path)]; "
        program = code or "import classifier; sys.exit(classifier.main(sys.argv[1:]))"
        return subprocess.run(
            [sys.executable, "-SB", "-W", "error", "-c", start + program, *map(str, arguments)],
            capture_output=True, text=True, encoding="utf-8", check=False, timeout=120,
            env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8"} | environment,
        )  # fmt: skip

    return run


def load_module(folder: Path) -> ModuleType:
    """The app's own code, in this process."""
    name = "embedded_classifier"
    spec = importlib.util.spec_from_file_location(name, folder / "classifier.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[name]
    return module


@pytest.fixture
def digits_app(app: Path) -> Iterator[Any]:
    with load_module(app).Classifier(app) as classifier:
        yield classifier


@pytest.fixture(scope="module")
def colours(colour_app: Path) -> Iterator[Any]:
    module = load_module(colour_app)
    with module.Classifier(colour_app, threads=1) as classifier:
        classifier.image_error = module.ImageError
        yield classifier


@pytest.fixture
def copy(app: Path, tmp_path: Path) -> Path:
    """An app that a test may damage."""
    return Path(shutil.copytree(app, tmp_path / "copy"))


def flip_byte(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x55
    path.write_bytes(data)


def draw(width: int, height: int, mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 4), np.uint8)
    if mode == "I;16":
        return Image.fromarray((values[..., 0].astype(np.uint16) << 8) + values[..., 1])
    return Image.fromarray(values, "RGBA").convert("RGB").convert(mode) if mode not in ("LA", "PA", "RGBA") else (
        Image.fromarray(values, "RGBA").convert(mode)
    )  # fmt: skip


def test_it_proves_itself_with_its_three_packages_alone(app: Path, alone: App) -> None:
    code = "import importlib.util as u; sys.exit(any(map(u.find_spec, ('torch', 'onward', 'runtime', 'onnx'))))"
    assert alone(app, code=code).returncode == 0
    result = alone(app, "--self-test")
    assert (result.returncode, result.stderr) == (0, "")
    assert len(re.findall(r"  ok$", result.stdout, re.MULTILINE)) == 6 + 5
    assert re.search(
        r"^Passed\.\n  The model is as accurate as PyTorch here: noise ratio \d", result.stdout, re.MULTILINE
    )


AFTER_A_FORK = """
import os, sys, warnings
warnings.simplefilter("ignore")
import numpy as np
from classifier import Classifier, ClassifierError
with Classifier() as opened:
    print(opened._session.get_session_options().intra_op_num_threads, flush=True)
    if not os.fork():
        try:
            opened(np.zeros((1, 8, 8, 1), np.uint8))
        except ClassifierError as error:
            print(error, flush=True)
        os._exit(0)
    os.wait()
"""


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no affinity")
def test_it_takes_the_cores_of_its_process_and_no_session_across_a_fork(app: Path, alone: App) -> None:
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})" + AFTER_A_FORK
    done = alone(app, code=code)
    assert (done.returncode, done.stderr) == (0, "")
    threads, said = done.stdout.splitlines()
    assert threads == "1"
    assert said.startswith("the model was opened before this process was forked. onnxruntime does not survive a fork")


def test_its_noise_ratio_is_that_of_verify(app: Path, shared_bundle: Bundle) -> None:
    threads = onward.load(shared_bundle.path).backend.session.get_session_options().intra_op_num_threads
    with load_module(app).Classifier(app, threads=threads) as classifier:
        found = classifier.self_test()
    (verification,) = verify(shared_bundle, artifacts=["onnx"])
    assert verification.verdict is not None
    expected = verification.verdict.comparisons
    assert [(row.kind, row.output, row.num_samples, row.error, row.noise_ratio, row.passed) for row in found.rows] == [
        (row.kind, row.output, row.num_samples, row.error, row.noise_ratio, row.passed) for row in expected
    ]
    assert (found.passed, found.noise_ratio) == (True, verification.verdict.noise_ratio)
    assert all(card.max_levels == 0 for card in found.cards)


def test_it_says_what_onward_says(digits_app: Any, shared_bundle: Bundle, digits: Any, tmp_path: Path) -> None:
    images = digits.test.images
    with onward.load(shared_bundle.path) as model:
        expected = model(images)
    found = digits_app(images)
    assert found.labels == expected.labels
    np.testing.assert_array_equal(found.probabilities, expected.probabilities)
    np.testing.assert_array_equal(found.logits, expected.logits)
    few = [Image.fromarray(image[..., 0]) for image in images[:5]]
    (tmp_path / "one.png").write_bytes(encode(few[0]))
    for given_images in (few, [*map(encode, few)], list(images[:5]), [tmp_path / "one.png", *few[1:]]):
        np.testing.assert_array_equal(digits_app(given_images).logits, digits_app(images[:5]).logits)
    for one in (few[0], encode(few[0]), images[0], tmp_path / "one.png", str(tmp_path / "one.png")):
        assert digits_app(one).labels == expected.labels[:1]
    assert len(digits_app([])) == 0


def test_the_most_probable_labels_come_first(digits_app: Any, pixels: NDArray[np.uint8]) -> None:
    found = digits_app(pixels)
    for label, row, top in zip(found.labels, found.probabilities, found.top(3), strict=True):
        assert top[0][0] == label
        assert [value for _, value in top] == sorted(map(float, row), reverse=True)[:3]
    assert all(len(top) == 10 for top in found.top(99))


def test_the_command_tells_of_every_image_it_can_read(alone: App, app: Path, tmp_path: Path) -> None:
    (tmp_path / "good.png").write_bytes(encode(draw(30, 40)))
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_text("no image")
    paths = [tmp_path / name for name in ("empty.png", "good.png", "text.png", "nowhere.png")]
    result = alone(app, *paths, "--json", "--top-k", 2)
    assert result.returncode == 1
    (line,) = result.stdout.splitlines()
    document = json.loads(line)
    assert document["input"] == str(paths[1])
    assert document["top"][0] == {key: document[key] for key in ("label", "index", "probability")}
    assert len(document["top"]) == 2
    assert [error.split(": ")[0] for error in result.stderr.splitlines()] == [str(paths[at]) for at in (0, 2, 3)]
    text = alone(app, paths[1])
    assert (text.returncode, text.stderr) == (0, "")
    assert text.stdout == f"{paths[1]}: {document['label']} {document['probability']:.1%}\n".replace("%", " %")


@pytest.mark.parametrize(
    "arguments", [(), ("--self-test", "a.png"), ("a.png", "--top-k", "0"), ("a.png", "--threads", "0"), ("--nothing",)]
)
def test_wrong_usage_is_told_apart(alone: App, app: Path, arguments: tuple[str, ...]) -> None:
    result = alone(app, *arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("usage:")


@pytest.mark.parametrize("mode", PICTURES)
@pytest.mark.parametrize("size", [(33, 47), (16, 20), (5, 3), (640, 24)], ids=str)
def test_a_picture_of_any_kind_gives_the_pixels_of_onward(
    digits_app: Any, colours: Any, shared_bundle: Bundle, colour: Bundle, mode: str, size: tuple[int, int]
) -> None:
    image = draw(*size, mode)
    np.testing.assert_array_equal(digits_app.pixels(image)[0], prepare(image, shared_bundle.signature))
    expected = prepare(image, colour.signature).astype(int)
    assert np.abs(colours.pixels(image)[0] - expected).max() <= SHORTCUT_LEVELS


@pytest.fixture(params=["ignore", "apply"])
def exif(request: pytest.FixtureRequest, colours: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """The rule of the signature that the app of `colours` has."""
    rule = str(request.param)
    monkeypatch.setitem(colours.signature["preprocess"], "exif", rule)
    return rule


def assert_read_as_onward_reads(colours: Any, colour: Bundle, data: bytes, exif: str, what: str) -> None:
    assert isinstance(colour.signature, Signature)
    expected = read_image(data, colour.signature.with_exif(exif)).astype(int)
    assert np.abs(colours.pixels(data)[0] - expected).max() <= SHORTCUT_LEVELS, what


def test_the_signature_says_whether_a_photograph_is_turned(colours: Any, colour: Bundle, exif: str) -> None:
    for orientation in range(10):
        for file_format in ("JPEG", "PNG", "WEBP", "TIFF", *(["AVIF"] if "avif" in features.get_supported() else [])):
            data = encode(draw(31, 44), file_format, exif=exif_of(orientation))
            assert_read_as_onward_reads(colours, colour, data, exif, f"{file_format} {orientation}")
    damaged = encode(draw(31, 44), "JPEG", exif=exif_of(6)).replace(b"Exif\0\0MM", b"Exif\0\0??")
    assert_read_as_onward_reads(colours, colour, damaged, exif, "damaged")


def test_without_the_key_of_older_models_nothing_is_turned(
    colours: Any, colour: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(colours.signature["preprocess"], "exif")
    data = encode(draw(31, 44), "JPEG", exif=exif_of(6))
    assert_read_as_onward_reads(colours, colour, data, "ignore", "an old model.json")


def test_of_16_bits_the_app_keeps_what_onward_keeps(colours: Any, colour: Bundle, exif: str) -> None:
    levels = np.random.default_rng(8).integers(0, 65536, (40, 30, 4))
    for channels in (1, 2, 3, 4):
        assert_read_as_onward_reads(colours, colour, png_of_16_bits(levels[..., :channels]), exif, f"PNG {channels}")
    for channels, photometric in ((1, 0), (1, 1), (3, 2), (4, 5)):
        data = tiff_of_16_bits(levels[..., :channels], photometric)
        assert_read_as_onward_reads(colours, colour, data, exif, f"TIFF {photometric}")


@pytest.mark.parametrize("mode", ["F", "I"])
def test_values_without_a_black_and_a_white_are_refused_as_onward_refuses_them(
    digits_app: Any, shared_bundle: Bundle, mode: str
) -> None:
    image = Image.new(mode, (8, 8), 1)
    with pytest.raises(Exception, match="no stated black and white") as found:
        digits_app(image)
    with pytest.raises(onward.errors.ImageError) as expected, onward.load(shared_bundle.path) as classifier:
        classifier(image)
    assert str(found.value) == f"{expected.value}."


@pytest.mark.parametrize("file_format", ["GIF", "WEBP", "TIFF", "PNG"])
def test_of_an_animation_the_first_frame_is_read(colours: Any, colour: Bundle, file_format: str) -> None:
    frames = [draw(40, 30), draw(40, 30).rotate(180)]
    data = encode(frames[0], file_format, save_all=True, append_images=frames[1:], **{"lossless": True} if
                  file_format == "WEBP" else {})  # fmt: skip
    with Image.open(io.BytesIO(data)) as image:
        assert image.n_frames == 2  # type: ignore[attr-defined]
        expected = prepare(image, colour.signature).astype(int)
    assert np.abs(colours.pixels(data)[0] - expected).max() <= SHORTCUT_LEVELS


def test_a_cmyk_jpeg_is_read(colours: Any, colour: Bundle) -> None:
    data = encode(draw(40, 30, "CMYK"), "JPEG")
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "CMYK"
        expected = prepare(image, colour.signature).astype(int)
    assert np.abs(colours.pixels(data)[0] - expected).max() <= SHORTCUT_LEVELS


def huge_png(width: int, height: int) -> bytes:
    """A PNG of one bit a pixel, all black."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    row = b"\0" * (1 + (width + 7) // 8)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    image = zlib.compress(row * height, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", image) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an image"),
        (b"this is text", "not an image"),
        (encode(draw(64, 64))[:700], "cannot be read"),
        (encode(draw(64, 64), "JPEG")[:300], "cannot be read|not an image"),
        (huge_png(10_000, 10_001), "too large"),
        (huge_png(20_000, 20_001), "too large"),
    ],
    ids=["zero bytes", "text", "truncated PNG", "truncated JPEG", "100 MP", "400 MP"],
)
def test_what_is_no_image_ends_in_a_sentence(
    alone: App, app: Path, tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "image"
    path.write_bytes(content)
    result = alone(app, path)
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"{path}: ")
    assert any(part in line for part in message.split("|"))


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(["JPEG", "PNG", "WEBP", "TIFF", "GIF"]))
def test_a_damaged_image_is_an_image_error_or_read(colours: Any, seed: int, file_format: str) -> None:
    exif = exif_of(6)
    exif[0x010E] = "a description"
    data = bytearray(encode(draw(20, 20), file_format, exif=exif))
    generator = np.random.default_rng(seed)
    for at in generator.integers(0, len(data), 4):
        data[at] = generator.integers(256)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own, of tags and headers that it can do without
        try:
            found = colours.pixels(bytes(data))
        except colours.image_error:
            return
    assert found.shape == (1, 20, 16, 3)


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (np.zeros((1, 8, 8, 1), np.float32), r"float32 \(1, 8, 8, 1\), expected uint8 \(batch, 8, 8, 1\)"),
        (np.zeros((8, 8), np.uint8), r"uint8 \(8, 8\), expected"),
        (np.zeros((1, 1, 8, 8), np.uint8), "expected"),
        (np.zeros((1, 9, 8, 1), np.uint8), "expected"),
        ([np.zeros((8, 8, 1), np.uint8), np.zeros((8, 9, 1), np.uint8)], "expected one shape"),
        (3, "a int is not an image"),
    ],
    ids=["floats", "no channel", "channel first", "other size", "shapes", "number"],
)
def test_an_array_of_another_shape_is_refused(digits_app: Any, images: Any, expected: str) -> None:
    with pytest.raises(Exception, match=expected) as caught:
        digits_app(images)
    assert type(caught.value).__name__ == "ClassifierError"


def test_a_model_that_takes_planes_is_fed_them(colours: Any, colour: Bundle) -> None:
    """Its weights lie in a file of their own, too."""
    images = [draw(50 + at, 40) for at in range(4)]
    with onward.load(colour.path) as model:
        arrays = np.stack([colours.pixels(image)[0] for image in images])
        expected = model(arrays)
    found = colours(images)
    # threads may sum in other orders
    np.testing.assert_allclose(found.logits, expected.logits, rtol=1e-5, atol=1e-6)
    assert found.labels == expected.labels
    tested = colours.self_test()
    assert tested.passed


def test_labels_and_title_are_never_code_nor_break_a_line(
    colour_app: Path, alone: App, app: Path, tmp_path: Path
) -> None:
    for name in ("classifier.py", "requirements.txt"):
        assert (colour_app / name).read_bytes() == (app / name).read_bytes()
    readme = (colour_app / "README.md").read_text()
    assert readme.startswith("# colour\n")
    assert not any(label in readme for label in LABELS if label != "$name")
    (tmp_path / "image.png").write_bytes(encode(draw(30, 30)))
    for environment in ({}, {"PYTHONIOENCODING": "ascii"}):
        result = alone(colour_app, tmp_path / "image.png", "--top-k", 99, **environment)
        assert (result.returncode, result.stderr) == (0, "")
        assert len(result.stdout.splitlines()) == 1
        assert len(re.findall(r" \d+\.\d %", result.stdout)) == len(LABELS)
        assert "\x1b" not in result.stdout
    refusal = alone(colour_app, tmp_path / "image.png", "--provider", "\x1b[31m\u202e").stderr
    assert refusal.startswith("error: onnxruntime has no \\u001b[31m\\u202e;")
    document = json.loads(alone(colour_app, tmp_path / "image.png", "--top-k", 99, "--json").stdout)
    assert {entry["label"] for entry in document["top"]} == set(LABELS)


@pytest.mark.parametrize("file", ["model.onnx", "model.onnx.data"])
def test_a_changed_model_is_refused_with_both_digests(colour_app: Path, tmp_path: Path, alone: App, file: str) -> None:
    folder = Path(shutil.copytree(colour_app, tmp_path / "copy"))
    before = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    flip_byte(folder / file, 20)
    after = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    result = alone(folder, "--self-test")
    assert (result.returncode, result.stdout) == (1, "")
    assert before in result.stderr
    assert after in result.stderr


@pytest.mark.parametrize("name", ["real.logits.bin", "real.input.bin", "constant.logits.bin", "card.png.bin"])
def test_a_changed_golden_record_fails(copy: Path, alone: App, name: str) -> None:
    path = copy / "golden" / name
    data = bytearray(path.read_bytes())
    path.write_bytes(bytes(len(data) // 2) + data[len(data) // 2 :])
    result = alone(copy, "--self-test")
    assert (result.returncode, result.stderr) == (1, "")
    assert "  FAILED\n" in result.stdout
    assert ("The model is as accurate" in result.stdout) == (name == "card.png.bin")


@pytest.mark.parametrize("name", ["model.json", "model.onnx", "golden/golden.json", "golden/real.logits.bin"])
@pytest.mark.parametrize("damage", ["missing", "short"])
def test_what_is_not_whole_ends_in_a_sentence(copy: Path, alone: App, name: str, damage: str) -> None:
    path = copy / name
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-9])
    result = alone(copy, "--self-test")
    assert (result.returncode, result.stdout) == (1, "")
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert path.name in line


def test_not_a_number_fails(app: Path) -> None:
    module = load_module(app)
    with module.Classifier(app) as classifier:
        run = classifier.run
        classifier.run = lambda tensor: {name: values * np.nan for name, values in run(tensor).items()}
        found = classifier.self_test()
    assert not found.passed
    assert not any(row.passed for row in found.rows)
    assert np.isnan(found.noise_ratio)


@pytest.fixture(scope="module")
def int8_app(tmp_path_factory: pytest.TempPathFactory) -> Path:
    bundle, folder = Bundle.open(path_of(DIGITS_INT8)), tmp_path_factory.mktemp("app") / "int8"
    return embed(bundle, "python", folder, EmbedOptions(artifact="onnx-int8")).path


def test_a_model_of_lower_precision_is_compared_with_what_it_gave(int8_app: Path, alone: App) -> None:
    result = alone(int8_app, "--self-test")
    assert (result.returncode, result.stderr) == (0, "")
    assert "quantisation error" in result.stdout
    assert "The model (int8) computes here what was measured when it was built: deviation ratio 0.00." in result.stdout
    assert "PyTorch" not in result.stdout
    bundle = Bundle.open(path_of(DIGITS_INT8))
    (expected,) = verify(bundle, artifacts=["onnx-int8"])
    with load_module(int8_app).Classifier(int8_app) as classifier:
        found = classifier.self_test()
    assert expected.lower_precision is not None
    assert (found.passed, found.rows, found.precision) == (True, (), "int8")
    assert [(row.kind, row.output, row.num_samples, row.quantization_error) for row in found.deviations] == [
        (row.kind, row.output, row.num_samples, row.quantization_error) for row in expected.lower_precision.deviations
    ]


@pytest.mark.parametrize(("change", "passed"), [(0.05, True), (1.0, False), (np.nan, False)])
def test_a_model_of_lower_precision_that_computes_something_else_fails(
    int8_app: Path, change: float, passed: bool
) -> None:
    module = load_module(int8_app)
    with module.Classifier(int8_app) as classifier:
        run = classifier.run
        # at one batch size only
        classifier.run = lambda tensor: {
            name: values + np.float32(change if len(tensor) == 7 and name == "logits" else 0)
            for name, values in run(tensor).items()
        }
        found = classifier.self_test()
    assert found.model_passed == passed
    logits = [row for row in found.deviations if row.output == "logits" and row.kind != "constant"]
    assert all(row.passed == passed for row in logits)
    assert all(row.passed for row in found.deviations if row.output == "probabilities")
    text = module._describe(found, "0" * 64)
    assert ("does not compute here what was measured" in text) != passed


def test_a_reference_of_pytorchs_float32_is_compared_as_pytorch_does(copy: Path) -> None:
    path = copy / "golden" / "golden.json"
    document = json.loads(path.read_text())
    for samples in document["kinds"].values():
        for output in samples["outputs"].values():
            output["noise"]["is_measured"] = False
    path.write_text(json.dumps(document))
    module = load_module(copy)
    with module.Classifier(copy) as classifier:
        assert all(row.passed for row in classifier.self_test().rows if row.output == "probabilities")
        run = classifier.run
        classifier.run = lambda tensor: {name: values * np.float32(1.001) for name, values in run(tensor).items()}
        assert not any(row.passed for row in classifier.self_test().rows)


def test_a_provider_that_is_not_there_is_no_cpu(app: Path, alone: App) -> None:
    result = alone(app, "--self-test", "--provider", "NoSuchExecutionProvider")
    assert (result.returncode, result.stdout) == (1, "")
    assert "onnxruntime has no NoSuchExecutionProvider" in result.stderr


def test_an_image_of_another_size_is_taken_where_the_model_takes_any(tmp_path: Path) -> None:
    embed(Bundle.open(path_of("colour-any-size")), "python", tmp_path / "app")
    with load_module(tmp_path / "app").Classifier(tmp_path / "app") as classifier:
        assert classifier.pixels(draw(100, 50)).shape == (1, 20, 16, 3)
        assert len(classifier(np.zeros((2, 31, 17, 3), np.uint8))) == 2
        with pytest.raises(Exception, match=r"expected uint8 \(batch, height, width, 3\)"):
            classifier(np.zeros((2, 31, 17, 1), np.uint8))
