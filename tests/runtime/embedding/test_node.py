"""The app that `--target node` writes, run by Node.js; onnxruntime-node and sharp come from npm, once."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from onward.bundle import Bundle
from onward.classifier import load
from onward.embedding import EmbedOptions, embed
from onward.errors import ImageError
from onward.feed import from_pixels
from onward.images.decode import RESAMPLING, decode, read_image
from onward.parity import MAX_NOISE_RATIO
from onward.printable import printable
from onward.signature import Preprocess, Signature
from onward.tasks.classification import LOGITS
from tests.bundles import DIGITS_INT8, UNDEFINED, path_of
from tests.bundles import HOSTILE_NODE as HOSTILE
from tests.image_files import exif_of, png_of_16_bits, tiff_of_16_bits
from tests.needs import needs_pillow_13

ROOT = Path(__file__).parents[3]

pytestmark = pytest.mark.long
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "onward-tests"
MIN_NODE = (20, 9)


@dataclass(frozen=True)
class App:
    """A written app whose packages are installed."""

    path: Path

    def cli(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return self._node("cli.js", *map(str, arguments))

    def script(self, text: str, *arguments: object) -> subprocess.CompletedProcess[str]:
        """Run a module that lies, as it were, in the app's folder; its arguments are `process.argv.slice(1)`."""
        return self._node("--input-type=module", "--eval", text, "--", *map(str, arguments))

    def json(self, text: str, *arguments: object) -> Any:
        done = self.script(text, *arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def model(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads((self.path / "model.json").read_text())
        return document

    def _node(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["node", *arguments], cwd=self.path, capture_output=True, text=True, encoding="utf-8", timeout=120
        )


def absent(reason: str) -> None:
    """Skip; under CI, which installs it, fail."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="module")
def node_modules(shared_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The app's packages: installed by npm once for each list of dependencies, and kept between runs."""
    if not (shutil.which("node") and shutil.which("npm")):
        absent("there is no Node.js with npm here")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if tuple(map(int, version.strip("v\n").split(".")[:2])) < MIN_NODE:
        absent(f"Node.js {version.strip()} is too old")
    staged = tmp_path_factory.mktemp("node") / "packages"
    embed(shared_bundle, "node", staged)
    dependencies = json.loads((staged / "package.json").read_text())["dependencies"]
    digest = hashlib.sha256(json.dumps([version, dependencies], sort_keys=True).encode()).hexdigest()[:12]
    # packages find each other by the name of this folder
    installed = CACHE / f"node-{digest}" / "node_modules"
    if not installed.is_dir():
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-package-lock"]
        done = subprocess.run(command, cwd=staged, capture_output=True, text=True, timeout=600)
        if done.returncode != 0:
            absent(f"npm could not install the app's packages: {done.stderr.strip()[-300:]}")
        _move(staged / "node_modules", installed)
    return installed


def _move(source: Path, target: Path) -> None:
    """As a whole or not at all; another run may have been faster."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_suffix(f".{os.getpid()}")
    shutil.move(source, part)
    try:
        part.rename(target)
    except OSError:
        shutil.rmtree(part)


def write_app(bundle: Bundle, path: Path, node_modules: Path, *, artifact: str | None = None) -> App:
    embed(bundle, "node", path, EmbedOptions(artifact=artifact))
    (path / "node_modules").symlink_to(node_modules, target_is_directory=True)
    return App(path)


@pytest.fixture(scope="module")
def shared_app(shared_bundle: Bundle, node_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> App:
    """Read it, do not change it; `app` is one to play with."""
    return write_app(shared_bundle, tmp_path_factory.mktemp("app") / "digits", node_modules)


@pytest.fixture
def app(shared_bundle: Bundle, node_modules: Path, tmp_path: Path) -> App:
    return write_app(shared_bundle, tmp_path / "digits", node_modules)


def assert_a_sentence(done: subprocess.CompletedProcess[str], returncode: int, *parts: str) -> None:
    """It ended as it should, and says what is wrong without a stack trace."""
    assert done.returncode == returncode, done.stdout + done.stderr
    assert "\n    at " not in done.stderr
    for part in parts:
        assert part in done.stderr


# without the app


def test_the_lines_of_plain_onnxruntime_give_the_label(
    shared_bundle: Bundle, node_modules: Path, digits: Any, tmp_path: Path
) -> None:
    """Those of docs/embedding.md."""
    (code,) = re.findall(r"```javascript\n(.*?)```", (ROOT / "docs" / "embedding.md").read_text(), re.DOTALL)
    assert len([line for line in code.splitlines() if line and not line.startswith("import")]) == 5
    (tmp_path / "node_modules").symlink_to(node_modules, target_is_directory=True)
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "fashion").symlink_to(shared_bundle.path, target_is_directory=True)
    image = digits.test.images[3]
    Image.fromarray(image[..., 0]).save(tmp_path / "boot.png")
    code = code.replace("28, 28", "8, 8")
    command = ["node", "--input-type=module", "--eval", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == load(shared_bundle.path)(image).labels[0], done.stderr


# the self-test


def test_npm_test_proves_it_within_the_noise(shared_app: App, shared_bundle: Bundle) -> None:
    done = subprocess.run(["npm", "test"], cwd=shared_app.path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    found = re.search(r"noise ratio (\S+)\.$", done.stdout, re.MULTILINE)
    assert found is not None
    ratio = float(found[1])
    assert 0 < ratio <= MAX_NOISE_RATIO
    # other kernels, other last bits: of the same order of magnitude
    expected = load(shared_bundle.path).verify().verdict.noise_ratio
    assert expected / 10 < ratio < expected * 10


def test_npm_test_of_a_lower_precision_compares_with_what_it_gave(node_modules: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(path_of(DIGITS_INT8))
    app = write_app(bundle, tmp_path / "int8", node_modules, artifact="onnx-int8")
    done = subprocess.run(["npm", "test"], cwd=app.path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = r"The model \(int8\) computes here what was measured .* deviation ratio (\S+)\.$"
    found = re.search(verdict, done.stdout, re.MULTILINE)
    assert found is not None
    assert 0 <= float(found[1]) <= 2
    assert "PyTorch" not in done.stdout
    recorded = app.path / "golden" / "random.logits.bin"
    recorded.write_bytes((np.frombuffer(recorded.read_bytes(), "<f4") + 1).tobytes())
    failed = subprocess.run(["npm", "test"], cwd=app.path, capture_output=True, text=True, timeout=120)
    assert failed.returncode == 1
    assert "does not compute here what was measured" in failed.stdout
    assert failed.stdout.count("FAILED") == 1
    recorded.write_bytes(np.full(80, np.nan, "<f4").tobytes())
    undefined = app.json("""
      import { Classifier } from "./classifier.js";
      const { passed, model } = await (await Classifier.open()).selfTest();
      console.log(JSON.stringify([passed, String(model.deviationRatio), model.precision, model.limit]));
    """)
    assert undefined == [False, "NaN", "int8", 2]


def test_nothing_is_sent_to_the_maker_of_onnxruntime(
    shared_app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """onnxruntime's telemetry keeps an identifier and a database in the user's cache."""
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    open_model = 'import { Classifier } from "./classifier.js"; await Classifier.open(); console.log("opened");'
    assert shared_app.script(open_model).stdout == "opened\n"
    assert list(tmp_path.iterdir()) == []


def test_a_changed_model_is_not_opened_and_both_digests_are_shown(app: App) -> None:
    path = app.path / "model.onnx"
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1
    path.write_bytes(changed)
    expected = app.model()["model"]["sha256"]
    assert_a_sentence(app.cli("golden/card.png"), 1, hashlib.sha256(changed).hexdigest(), expected)


def test_a_changed_file_beside_the_model_is_not_opened(app: App) -> None:
    (app.path / "model.onnx.data").write_bytes(b"weights")
    document = app.model() | {"beside": [{"path": "model.onnx.data", "sha256": "0" * 64, "size_bytes": 7}]}
    (app.path / "model.json").write_text(json.dumps(document))
    assert_a_sentence(app.cli("golden/card.png"), 1, "model.onnx.data", "0" * 64)


@pytest.mark.parametrize("name", ["model.onnx", "model.json"])
def test_a_missing_file_is_named(app: App, name: str) -> None:
    (app.path / name).unlink()
    assert_a_sentence(app.cli("golden/card.png"), 1, name)


@pytest.mark.parametrize(("value", "shown"), [(1.0, "FAILED"), (math.nan, "NaN")])
def test_the_self_test_fails_where_the_reference_is_another_one(app: App, value: float, shown: str) -> None:
    path = app.path / "golden" / "real.logits.bin"
    reference = np.fromfile(path, "<f8")
    reference[3] += value
    reference.tofile(path)
    done = app.cli("--self-test")
    assert_a_sentence(done, 1)
    assert "Failed." in done.stdout
    assert shown in done.stdout
    assert "The model is not as accurate as PyTorch here" in done.stdout


def test_the_self_test_fails_where_a_card_is_decoded_otherwise(app: App) -> None:
    path = app.path / "golden" / "card.png.bin"
    pixels = np.fromfile(path, np.uint8)
    pixels[0] ^= 1
    pixels.tofile(path)
    done = app.cli("--self-test")
    assert_a_sentence(done, 1)
    assert "The model is as accurate as PyTorch here" in done.stdout
    assert "Images are not decoded" in done.stdout


def test_without_golden_the_self_test_says_so_and_images_are_classified(app: App, tmp_path: Path) -> None:
    shutil.move(app.path / "golden", tmp_path / "golden")
    assert_a_sentence(app.cli("--self-test"), 1, "golden.json")
    assert app.cli(tmp_path / "golden" / "card.png").returncode == 0


# the model

RUN = """
import { readFile, writeFile } from "node:fs/promises";
import { Classifier } from "./classifier.js";
const [input, output, count] = process.argv.slice(1);
const classifier = await Classifier.open();
const { logits } = await classifier.run(await readFile(input), Number(count));
await writeFile(output, logits);
"""


def run_model(app: App, images: NDArray[np.uint8], folder: Path) -> NDArray[np.float32]:
    images.tofile(folder / "images.bin")
    done = app.script(RUN, folder / "images.bin", folder / "logits.bin", len(images))
    assert done.returncode == 0, done.stderr
    return np.fromfile(folder / "logits.bin", np.float32).reshape(len(images), -1)


def test_ten_thousand_images_are_labelled_as_onward_labels_them(
    fashion_mnist: Any, node_modules: Path, tmp_path: Path
) -> None:
    test, bundle = fashion_mnist.test, Bundle.open(path_of("fashion"))
    app = write_app(bundle, tmp_path / "app", node_modules)
    images = test.images
    logits, expected = run_model(app, images, tmp_path), load(bundle.path)(images)
    floor = max(noise[LOGITS].floor for noise in bundle.golden().noise.values())
    first, second = np.sort(expected.logits, axis=1)[:, :-3:-1].T
    decided = first - second > 2 * floor
    assert len(images) == 10_000
    assert (expected.indices == test.targets).mean() > 0.5  # it has learned to tell them apart
    assert decided.mean() > 0.99
    np.testing.assert_array_equal(logits.argmax(1)[decided], expected.indices[decided])


CLASSIFY = """
import { readFile } from "node:fs/promises";
import { Classifier } from "./classifier.js";
const path = process.argv[1];
const classifier = await Classifier.open({ threads: 1 });
const bytes = await readFile(path);
const grey = { width: 8, height: 8, data: new Uint8ClampedArray(256).fill(77) };
const show = ({ label, index, probability, probabilities, logits }) =>
  ({ label, index, probability, probabilities: [...probabilities], logits: [...logits] });
const one = show(await classifier.classify(path));
const many = (await classifier.classify([path, bytes, bytes.buffer.slice(0, bytes.length), grey])).map(show);
const none = await classifier.classify([]);
const alone = show(await classifier.classify(grey));
await classifier.close();
console.log(JSON.stringify({ one, many, none, alone }));
"""


def test_every_way_to_give_an_image_gives_the_same(shared_app: App, shared_bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)).save(path)
    found = shared_app.json(CLASSIFY, path)
    expected = load(shared_bundle.path)([path, np.full((8, 8, 1), 77, np.uint8)])
    for result, row in [(found["one"], 0), *zip(found["many"], (0, 0, 0, 1), strict=True), (found["alone"], 1)]:
        assert result["label"] == expected.labels[row]
        assert result["index"] == expected.indices[row]
        assert result["probability"] == max(result["probabilities"])
        # float32 through other kernels: 1e-5 is what torch.testing.assert_close allows
        np.testing.assert_allclose(result["logits"], expected.logits[row], rtol=0, atol=1e-5)
        np.testing.assert_allclose(result["probabilities"], expected.probabilities[row], rtol=0, atol=1e-5)
    assert found["none"] == []


MISTAKES = """
import { Classifier } from "./classifier.js";
const classifier = await Classifier.open();
const said = [];
for (const make of [
  () => classifier.run(new Float32Array(64), 1),
  () => classifier.run(new Uint8Array(63), 1),
  () => classifier.run(new Uint8Array(0), 0),
  () => classifier.run(undefined, 1),
  () => classifier.classify(17),
  () => classifier.classify(null),
  () => classifier.classify(["golden/card.png", { width: 8, height: 8, data: new Uint8Array(3) }]),
  () => classifier.classify({ width: 0, height: 8, data: new Uint8Array(0) }),
  () => Classifier.open({ threads: 0 }),
]) await make().then(() => said.push("nothing"), (error) => said.push(`${error.name}: ${error.message}`));
console.log(JSON.stringify(said));
"""


def test_mistakes_are_told_in_a_sentence(shared_app: App) -> None:
    expected = (
        "TypeError: the batch is a Float32Array of 64 values, expected a Uint8Array of 1 × 8 × 8 × 1 = 64",
        "TypeError: the batch is a Uint8Array of 63 values",
        "TypeError: the batch is a Uint8Array of 0 values",
        "TypeError: the batch is a undefined",
        "ImageError: image 0: not an image",
        "ImageError: image 0: not an image",
        "ImageError: image 1: not an image",
        "ImageError: image 0: not an image",
        "RangeError: threads is 0",
    )
    for found, beginning in zip(shared_app.json(MISTAKES), expected, strict=True):
        assert found.startswith(beginning)


# decoding

DECODE = """
import { readFile, readdir, writeFile } from "node:fs/promises";
import { decode } from "./decode.js";
import { toPixels } from "./pixels.js";
const [folder, exif] = process.argv.slice(1);
const { signature } = JSON.parse(await readFile("model.json", "utf8"));
for (const name of await readdir(folder)) {
  const picture = await decode(await readFile(`${folder}/${name}`), { exif });
  await writeFile(`${folder}/${name}.rgba`, picture.data);
  await writeFile(`${folder}/${name}.pixels`, toPixels(picture, signature));
}
"""


def draw(generator: np.random.Generator, height: int, width: int, channels: int) -> NDArray[np.uint8]:
    """Slopes with some noise: something that JPEG can keep."""
    slope = np.add.outer(np.linspace(0, 150, height), np.linspace(0, 80, width))[..., None]
    noise = generator.integers(0, 25, (height, width, channels))
    return np.asarray(slope * np.linspace(0.4, 1, channels) + noise, np.uint8)


def write_lossless(folder: Path) -> None:
    """Every kind of image whose pixels are no matter of opinion."""
    generator = np.random.default_rng(1)
    rgb, rgba, grey, deep = (
        Image.fromarray(draw(generator, 37, 53, 3)),
        Image.fromarray(draw(generator, 20, 31, 4)),
        Image.fromarray(draw(generator, 1, 90, 1)[..., 0]),
        generator.integers(0, 65536, (9, 7, 4)),
    )
    frames: dict[str, Any] = {"save_all": True, "append_images": [rgb.rotate(180)]}
    for orientation in range(1, 9):
        rgb.save(folder / f"turned-{orientation}.png", exif=exif_of(orientation))
        rgb.save(folder / f"turned-{orientation}.tif", exif=exif_of(orientation))
        rgb.save(folder / f"turned-{orientation}.webp", lossless=True, exif=exif_of(orientation))
    for suffix in ("png", "tif"):
        rgb.save(folder / f"rgb.{suffix}")
        rgba.save(folder / f"rgba.{suffix}")
        grey.save(folder / f"grey.{suffix}")
        grey.point(lambda level: 255 * (level > 99), "1").save(folder / f"one-bit.{suffix}")
    rgba.convert("LA").save(folder / "grey-alpha.png")
    rgb.quantize(17).save(folder / "palette.png")
    rgb.quantize(17).save(folder / "palette-alpha.png", transparency=3)
    rgb.save(folder / "one-colour-is-clear.png", transparency=(1, 2, 3))
    rgb.save(folder / "profile.png", icc_profile=odd_profile())
    rgb.save(folder / "animated.png", **frames)
    rgb.save(folder / "animated.gif", **frames)
    rgb.save(folder / "animated.webp", lossless=True, **frames)
    rgb.save(folder / "pages.tif", **frames)
    rgba.save(folder / "rgba.webp", lossless=True, exact=True)
    rgb.convert("CMYK").save(folder / "cmyk.tif")
    for name, levels in (
        ("grey", deep[..., :1]),
        ("grey-alpha", deep[..., :2]),
        ("rgb", deep[..., :3]),
        ("rgba", deep),
    ):
        (folder / f"deep-{name}.png").write_bytes(png_of_16_bits(levels))
    for name, channels, photometric in (("white", 1, 0), ("grey", 1, 1), ("rgb", 3, 2), ("cmyk", 4, 5)):
        (folder / f"deep-{name}.tif").write_bytes(tiff_of_16_bits(deep[..., :channels], photometric))


def odd_profile() -> bytes:
    """An ICC profile that would swap red and blue, were it heeded."""
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    table, rest = profile[:400], profile[400:]  # the names of its parts come first
    swapped = table.replace(b"rXYZ", b"swap").replace(b"bXYZ", b"rXYZ").replace(b"swap", b"bXYZ")
    assert swapped != table
    return swapped + rest


def decoded(
    app: App, folder: Path, exif: str = "apply"
) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]]:
    """Of every file: its name, the app's RGB, its pixels for the model, and RGB as Onward decodes it."""
    names = sorted(path.name for path in folder.iterdir())
    done = app.script(DECODE, folder, exif)
    assert done.returncode == 0, done.stderr
    colour = Signature(1, 1, 3, (0.5,) * 3, (0.5,) * 3, ("a", "b"), Preprocess(exif=exif))
    for name in names:
        expected = np.asarray(decode(folder / name, colour).image)
        rgba = np.fromfile(folder / f"{name}.rgba", np.uint8).reshape(*expected.shape[:2], 4)
        yield name, rgba[..., :3], np.fromfile(folder / f"{name}.pixels", np.uint8), expected


@needs_pillow_13
@pytest.mark.parametrize("exif", ["ignore", "apply"])
def test_lossless_images_are_decoded_to_pillows_pixels(shared_app: App, tmp_path: Path, exif: str) -> None:
    write_lossless(tmp_path)
    signature = Signature.from_json(shared_app.model()["signature"])
    for name, rgb, pixels, expected in decoded(shared_app, tmp_path, exif):
        np.testing.assert_array_equal(rgb, expected, err_msg=name)
        found = read_image(tmp_path / name, signature.with_exif(exif))
        np.testing.assert_array_equal(pixels, found.ravel(), err_msg=name)


def test_lossy_images_are_decoded_within_a_few_levels(shared_app: App, tmp_path: Path) -> None:
    # on this machine they are the same to the bit; other builds of the decoders may round otherwise
    max_levels = 3
    picture = Image.fromarray(draw(np.random.default_rng(2), 75, 101, 3))
    for subsampling in range(3):
        picture.save(tmp_path / f"{subsampling}.jpg", subsampling=subsampling, quality=80)
    picture.save(tmp_path / "progressive.jpg", progressive=True)
    picture.save(tmp_path / "turned.jpg", exif=exif_of(6))
    picture.convert("L").save(tmp_path / "grey.jpg")
    Image.fromarray(draw(np.random.default_rng(3), 40, 41, 4), "CMYK").save(tmp_path / "cmyk.jpg", quality=90)
    picture.save(tmp_path / "lossy.webp")
    for name, rgb, _, expected in decoded(shared_app, tmp_path):
        difference = np.abs(rgb.astype(int) - expected)
        assert difference.max() <= max_levels, name


def test_values_without_a_black_and_a_white_are_refused_as_onward_refuses_them(
    shared_app: App, shared_bundle: Bundle, tmp_path: Path
) -> None:
    paths = [tmp_path / name for name in ("float.tif", "wide.tif", "signed.tif")]
    Image.fromarray(np.full((8, 8), 0.5, np.float32)).save(paths[0])
    Image.fromarray(np.full((8, 8), 70_000, np.int32)).save(paths[1])
    paths[2].write_bytes(tiff_of_16_bits(np.zeros((8, 8, 1), np.uint16), 1, signed=True))
    classifier = load(shared_bundle.path)
    done = shared_app.cli(*paths)
    for path in paths:
        with pytest.raises(ImageError) as caught:
            classifier(path)
        assert_a_sentence(done, 1, f"{caught.value}.\n")


def test_a_gifs_transparent_pixels_are_black_which_pillow_does_not(shared_app: App, tmp_path: Path) -> None:
    picture = Image.fromarray(draw(np.random.default_rng(5), 9, 11, 3)).quantize(8)
    picture.save(tmp_path / "clear.gif", transparency=2)
    ((_, rgb, _, expected),) = decoded(shared_app, tmp_path)
    with Image.open(tmp_path / "clear.gif") as image:
        is_clear = np.asarray(image.convert("RGBA"))[..., 3] == 0
    assert is_clear.any()
    assert not rgb[is_clear].any()
    np.testing.assert_array_equal(rgb[~is_clear], expected[~is_clear])


# scaling

SCALE = """
import { readFile, writeFile } from "node:fs/promises";
import { toPixels, toTensor } from "./pixels.js";
const folder = process.argv[1];
const cases = JSON.parse(await readFile(`${folder}/cases.json`, "utf8"));
const pictures = await readFile(`${folder}/pictures.bin`);
const [scaled, tensors] = [[], []];
let start = 0;
for (const { width, height, signature } of cases) {
  const end = start + 4 * width * height;
  const pixels = toPixels({ width, height, data: pictures.subarray(start, end) }, signature);
  const data = toTensor(pixels, signature);
  scaled.push(pixels);
  tensors.push(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  start = end;
}
await writeFile(`${folder}/scaled.bin`, scaled);
await writeFile(`${folder}/tensors.bin`, tensors);
"""


def draw_signature(generator: np.random.Generator) -> Signature:
    """Any size, rule, filter, colour and normalisation."""
    height, width = generator.integers(1, 40, 2).tolist()
    channels, repeat = [(1, 1), (1, 3), (3, 1)][generator.integers(3)]
    shorter_side_px = int(generator.integers(1, 50)) if generator.random() < 0.5 else None
    resize = "stretch" if shorter_side_px is None else "shorter-side"
    return Signature(
        height,
        width,
        channels,
        mean=tuple(generator.random(channels * repeat).tolist()),
        std=tuple((generator.random(channels * repeat) + 0.1).tolist()),
        labels=("no", "yes"),
        preprocess=Preprocess(resize, shorter_side_px, str(generator.choice(list(RESAMPLING)))),
        repeat=repeat,
        interface=str(generator.choice(["pixels", "tensor"])),
    )


def scale(picture: NDArray[np.uint8], signature: Signature) -> NDArray[np.uint8]:
    """What training does: Pillow's resize, then its crop; torchvision's rounding."""
    image = Image.fromarray(picture).convert("RGB").convert("L" if signature.channels == 1 else "RGB")
    resample = RESAMPLING[signature.preprocess.interpolation]
    width, height = signature.width, signature.height
    if (side_px := signature.preprocess.shorter_side_px) is None:
        image = image.resize((width, height), resample)
    else:
        image = image.resize(tuple(side_px * side // min(image.size) for side in image.size), resample)
        left, top = round((image.width - width) / 2), round((image.height - height) / 2)
        image = image.crop((left, top, left + width, top + height))
    return np.asarray(image).reshape(signature.image_shape)


@needs_pillow_13
def test_pictures_are_scaled_and_normalised_to_the_same_bits(shared_app: App, tmp_path: Path) -> None:
    generator = np.random.default_rng(6)
    cases, pictures, pixels, tensors = [], [], [], []
    for _ in range(400):
        height, width = np.exp(generator.uniform(0, math.log(150), 2)).astype(int).tolist()
        signature = draw_signature(generator)
        picture = generator.integers(0, 256, (height, width, 4), np.uint8)
        cases.append({"width": width, "height": height, "signature": signature.to_json()})
        pictures.append(picture)
        pixels.append(scale(picture, signature))
        tensors.append(from_pixels(pixels[-1][None], signature))
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    (tmp_path / "pictures.bin").write_bytes(b"".join(picture.tobytes() for picture in pictures))
    done = shared_app.script(SCALE, tmp_path)
    assert done.returncode == 0, done.stderr
    for name, expected in (("scaled.bin", pixels), ("tensors.bin", tensors)):
        found, start = (tmp_path / name).read_bytes(), 0
        for case, array in zip(cases, expected, strict=True):
            assert found[start : start + array.nbytes] == array.tobytes(), (name, case)
            start += array.nbytes
        assert start == len(found)


LONG = """
import { toPixels } from "./pixels.js";
const signature = (interpolation) => ({
  input: { layout: "NHWC", shape: ["batch", 224, 224, 3] },
  preprocess: { color: "RGB", resize: "shorter-side", shorter_side_px: 256, interpolation },
});
const sums = [];
for (const interpolation of ["nearest", "bilinear", "bicubic"]) {
  for (const [width, height] of [[1, 200_000], [200_000, 1]]) {
    const data = new Uint8Array(4 * width * height).fill(9);
    sums.push(toPixels({ width, height, data }, signature(interpolation)).reduce((sum, level) => sum + level));
  }
}
console.log(JSON.stringify(sums));
"""


def test_a_picture_as_thin_as_a_hair_takes_no_memory_that_it_does_not_need(shared_app: App) -> None:
    assert shared_app.json(LONG) == 6 * [9 * 224 * 224 * 3]


# the command


def test_the_command_says_a_line_an_image_and_goes_on_after_a_bad_one(shared_app: App, tmp_path: Path) -> None:
    good = shared_app.path / "golden" / "card.png"
    done = shared_app.cli(good, tmp_path / "none.png", good, "--top-k", 3)
    assert_a_sentence(done, 1, "none.png: cannot be read (ENOENT).")
    first, second = done.stdout.splitlines()
    assert first == second
    assert re.fullmatch(re.escape(str(good)) + r": \d [\d.]+ %, \d [\d.]+ %, \d [\d.]+ %", first)


def test_it_prints_what_the_app_for_python_prints(shared_app: App, shared_bundle: Bundle, tmp_path: Path) -> None:
    embed(shared_bundle, "python", tmp_path / "python")
    card, none = shared_app.path / "golden" / "card.png", tmp_path / "none.png"
    for arguments in ([card], [card, "--top-k", 3], [none, card]):
        command = [sys.executable, "classifier.py", *map(str, arguments)]
        python = subprocess.run(command, cwd=tmp_path / "python", capture_output=True, text=True, timeout=120)
        node = shared_app.cli(*arguments)
        assert (node.returncode, node.stdout) == (python.returncode, python.stdout)
    command = [sys.executable, "classifier.py", "--self-test"]
    python = subprocess.run(command, cwd=tmp_path / "python", capture_output=True, text=True, timeout=120)
    # other kernels have other errors
    blank = [
        re.sub(r"\d+(\.\d+)?(e[-+]?\d+)?|0\b", "0", text)
        for text in (shared_app.cli("--self-test").stdout, python.stdout)
    ]
    assert re.sub(r" +", " ", blank[0]) == re.sub(r" +", " ", blank[1])


def test_json_has_the_fields_of_onward_predict(shared_app: App, shared_bundle: Bundle) -> None:
    path = shared_app.path / "golden" / "card.png"
    (line,) = shared_app.cli(path, "--json", "--top-k", 2).stdout.splitlines()
    document = json.loads(line)
    expected = load(shared_bundle.path)(path)
    assert list(document) == ["input", "label", "index", "probability", "top"]
    assert (document["input"], document["label"], document["index"]) == (
        str(path),
        expected.labels[0],
        expected.indices[0],
    )
    assert document["probability"] == pytest.approx(expected.probabilities.max(), abs=1e-5)
    assert document["top"][0] == {key: document[key] for key in ("label", "index", "probability")}
    assert len(document["top"]) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no image given"),
        (["--self-test", "x.png"], "takes no images"),
        (["x.png", "--top-k", "0"], "--top-k is 0"),
        (["x.png", "--threads", "many"], "--threads is many"),
        (["--nonsense"], "--nonsense"),
    ],
)
def test_wrong_arguments_exit_with_2_and_the_usage(shared_app: App, arguments: list[str], said: str) -> None:
    assert_a_sentence(shared_app.cli(*arguments), 2, said, "usage: node cli.js")


def huge_png() -> bytes:
    """A file of a hundred megapixels that is a few hundred kilobytes."""
    stream = io.BytesIO()
    Image.new("1", (10_000, 10_000)).save(stream, "PNG")
    return stream.getvalue()


def truncated(file_format: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(draw(np.random.default_rng(7), 200, 200, 3)).save(stream, file_format)
    return stream.getvalue()[: stream.tell() // 2]


def test_bad_images_are_told_of_in_a_sentence(shared_app: App, tmp_path: Path) -> None:
    bad = {
        "empty.png": (b"", "the file is empty"),
        "text.jpg": (b"no image at all", "not a readable image"),
        "half.jpg": (truncated("JPEG"), "the file is damaged or truncated"),
        "half.png": (truncated("PNG"), "the file is damaged or truncated"),
        "half.webp": (truncated("WEBP"), ("not a readable image", "the file is damaged or truncated")),
        "half.tif": (truncated("TIFF"), ("not a readable image", "the file is damaged or truncated")),
        "huge.png": (huge_png(), "too large: 10000×10000 are 100,000,000 pixels, expected at most 89,478,485"),
        "drawing.svg": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', "the format is svg"),
    }
    for name, (content, _) in bad.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.png").mkdir()
    done = shared_app.cli(*(tmp_path / name for name in bad), tmp_path / "folder.png")
    assert_a_sentence(done, 1)
    lines = done.stderr.splitlines()
    assert done.stdout == ""
    assert len(lines) == len(bad) + 1
    for line, (name, (_, said)) in zip(lines, bad.items(), strict=False):
        assert line.removeprefix(f"{tmp_path / name}: ").startswith(said)


# names and labels


def test_hostile_labels_are_text_and_nothing_else(node_modules: Path, tmp_path: Path) -> None:
    bundle = Bundle.open(shutil.copytree(path_of("hostile-labels"), tmp_path / 'a "name" <b>'))
    app = write_app(bundle, tmp_path / "app", node_modules)
    (line,) = app.cli("golden/card.png", "--json", "--top-k", 10).stdout.splitlines()
    assert {row["label"] for row in json.loads(line)["top"]} == set(HOSTILE)
    (text,) = app.cli("golden/card.png", "--top-k", 10).stdout.splitlines()  # a label's newline begins no line
    assert (printable(line), printable(text)) == (line, text)
    refusal = app.cli("golden/card.png", "--top-k", "\x1b[31m\u202e")
    assert printable(refusal.stderr.splitlines()[0]) == refusal.stderr.splitlines()[0]
    assert app.cli("--self-test").returncode == 0
    for path in app.path.iterdir():
        if path.is_file() and path.name not in ("model.json", "model.onnx"):
            content = path.read_text(encoding="utf-8")
            assert [label for label in HOSTILE if label in content] == []
    assert json.loads((app.path / "package.json").read_text())["name"] == "a-name-b"


def test_the_same_bundle_gives_the_same_bytes(shared_app: App, app: App) -> None:
    for path in app.path.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (shared_app.path / path.relative_to(app.path)).read_bytes()


def test_no_file_is_locked_to_a_registry(shared_app: App) -> None:
    assert not (shared_app.path / "package-lock.json").exists()
    assert (shared_app.path / ".npmrc").is_file()


def test_an_output_that_is_no_number_is_no_label(node_modules: Path, tmp_path: Path) -> None:
    app = write_app(Bundle.open(path_of("undefined")), tmp_path / "app", node_modules)
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "good.png")
    pixels[0, :3] = UNDEFINED
    Image.fromarray(pixels).save(tmp_path / "bad.png")
    done = app.cli(tmp_path / "bad.png", tmp_path / "good.png", "--json")
    assert_a_sentence(done, 1, "bad.png: no answer, because the model's outputs are NaN or infinite")
    assert [json.loads(line)["input"] for line in done.stdout.splitlines()] == [str(tmp_path / "good.png")]


@pytest.mark.parametrize("exif", ["ignore", "apply"])
def test_a_photograph_is_turned_if_the_signature_says_so(
    app: App, shared_bundle: Bundle, digits: Any, tmp_path: Path, exif: str
) -> None:
    document = app.model()
    document["signature"]["preprocess"]["exif"] = exif
    (app.path / "model.json").write_text(json.dumps(document))
    paths = [tmp_path / f"{index}.png" for index in range(8)]
    for path, image in zip(paths, digits.test.images, strict=False):
        Image.fromarray(image[..., 0]).save(path, exif=exif_of(6))
    expected = load(shared_bundle.path, exif=exif)(paths)
    done = app.cli(*paths, "--json")
    assert tuple(json.loads(line)["label"] for line in done.stdout.splitlines()) == expected.labels
    assert expected.labels != load(shared_bundle.path, exif="ignore" if exif == "apply" else "apply")(paths).labels
