"""Classifier: images in, labels and probabilities out, with a self-test of the model on this machine.

    from classifier import Classifier

    with Classifier() as classifier:
        print(classifier("photo.jpg").labels)

model.json in this folder describes the model. Needs numpy, onnxruntime and Pillow.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import math
import os
import re
import struct
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # onnxruntime would send events to its maker

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

__all__ = [
    "CardRow",
    "Classifier",
    "ClassifierError",
    "DeviationRow",
    "ImageError",
    "NoAnswerError",
    "ParityRow",
    "Predictions",
    "SelfTest",
]

LOGITS, PROBABILITIES = OUTPUTS = ("logits", "probabilities")
FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}
#: How to turn an image upright, by its EXIF orientation.
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
EXIF_ORIENTATION = 0x0112
#: Pillow opens grey images of 16 bits in its 32-bit mode where these formats hold them.
WIDENED_FORMATS = ("PNG", "PPM")
#: TIFF's tag that says what 0 stands for, and its value for white.
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0
MAX_PIXELS = 89_478_485  # Pillow's limit, at which it only warns
BATCH_BYTES, MAX_BATCH = 4 << 20, 1024  # per inference
#: TF32 keeps 10 bits of a float32's 23: with it no model is as good as PyTorch.
PROVIDER_OPTIONS = {"CUDAExecutionProvider": {"use_tf32": "0"}}
#: What a terminal may obey: control characters, surrogates, line breaks and marks of direction.
OBEYED = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
#: What Pillow's decoders raise on damaged files.
DECODING_ERRORS = (OSError, ValueError, TypeError, SyntaxError, EOFError, struct.error, OverflowError, MemoryError)
#: Images of one value. Correct models may score high on them, so the limit is relative to the output's scale.
CONSTANT = "constant"


AFTER_FORK = "onnxruntime does not survive a fork: import and open it in the child, or start processes with `spawn`."
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        after_in_child=lambda: warnings.warn(f"this process may never end. {AFTER_FORK}", RuntimeWarning, stacklevel=2)
    )


class ClassifierError(Exception):
    """A file of the app is missing or changed, or an input is invalid; the message says what to do."""


class ImageError(ClassifierError):
    """An image cannot be read."""


class NoAnswerError(ClassifierError):
    """The model's outputs are NaN or infinite for some images; `places` are their indices."""

    def __init__(self, places: tuple[int, ...], num_images: int) -> None:
        shown = ", ".join(map(str, places[:10])) + (", …" if len(places) > 10 else "")
        super().__init__(
            f"{len(places):,} of {num_images:,} images have no answer, because the model's outputs are NaN or "
            f"infinite: image {shown} (counted from 0). Leave them out."
        )
        self.places = places


@dataclass(frozen=True)
class Predictions:
    """Labels, probabilities and logits of a batch.

    Args:
        labels: The most probable label of each image.
        indices: Its class index, int `(batch,)`.
        probabilities: float32 `(batch, classes)`.
        logits: float32 `(batch, classes)`.
        classes: Every label, in the order of the columns.
    """

    labels: tuple[str, ...]
    indices: NDArray[np.intp]
    probabilities: NDArray[np.float32]
    logits: NDArray[np.float32]
    classes: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def top(self, count: int) -> list[list[tuple[str, float]]]:
        """The most probable labels of each image, with their probabilities."""
        best = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :count]
        rows = zip(best.tolist(), self.probabilities, strict=True)
        return [[(self.classes[index], float(row[index])) for index in indices] for indices, row in rows]


@dataclass(frozen=True)
class ParityRow:
    """The largest error of one output on one kind of sample, and its noise ratio; a NaN fails."""

    kind: str
    output: str
    num_samples: int
    error: float
    noise_floor: float
    noise_ratio: float
    passed: bool


@dataclass(frozen=True)
class DeviationRow:
    """In a lower precision: how far one output is from what was recorded when the model was built.

    Args:
        kind: Of samples.
        output: Its name.
        num_samples: How many samples.
        deviation: Root-mean-square difference; of several batch sizes, the largest.
        quantization_error: How far the model is from float64 by its rounding alone.
        deviation_ratio: The first over the second.
        passed: Whether it is small enough; a NaN fails.
    """

    kind: str
    output: str
    num_samples: int
    deviation: float
    quantization_error: float
    deviation_ratio: float
    passed: bool


@dataclass(frozen=True)
class CardRow:
    """One reference image: the difference of its pixels here and where the app was made, in levels of 255."""

    card: str
    max_levels: int
    mean_levels: float
    passed: bool


@dataclass(frozen=True)
class SelfTest:
    """Results of the self-test: the model's parity, and separately the decoded reference images.

    Args:
        rows: Of a float32 model; empty for a lower precision.
        cards: Of the reference images.
        deviations: Of a model of lower precision.
        precision: Of the model.
    """

    rows: tuple[ParityRow, ...]
    cards: tuple[CardRow, ...]
    deviations: tuple[DeviationRow, ...] = ()
    precision: str = "float32"

    @property
    def model_passed(self) -> bool:
        """Whether every row passed."""
        verdicts = [row.passed for row in self.rows] + [row.passed for row in self.deviations]
        return bool(verdicts) and all(verdicts)

    @property
    def passed(self) -> bool:
        """Whether every row and every reference image passed."""
        return self.model_passed and all(card.passed for card in self.cards)

    @property
    def noise_ratio(self) -> float:
        """Of a float32 model, the largest one: a NaN first, constant images last."""
        return max(self.rows, key=lambda row: (np.isnan(row.error), row.kind != CONSTANT, row.noise_ratio)).noise_ratio

    @property
    def deviation_ratio(self) -> float:
        """Of a model of lower precision, the largest one, a NaN first."""
        return max((row.deviation_ratio for row in self.deviations), key=lambda ratio: (np.isnan(ratio), ratio))


class Classifier:
    """The opened model. It is a context manager, and several threads may use it at once.

    Args:
        folder: The folder with model.json, the model and `golden/`.
        threads: Threads per inference; by default one for each core that this process may use.
        providers: onnxruntime's execution providers, in order, each a name or a name with its options; by default the
            CPU. If the first one does not start, it is an error: there is no silent fallback.

    Raises:
        ClassifierError: A file is missing or was changed, or the provider is not available.
    """

    def __init__(
        self,
        folder: str | Path = Path(__file__).parent,
        *,
        threads: int | None = None,
        providers: Sequence[str | tuple[str, dict[str, str]]] | None = None,
    ) -> None:
        self.folder = Path(folder)
        document = self._read_json("model.json")
        self.signature: dict[str, Any] = document["signature"]
        self.labels: tuple[str, ...] = tuple(self.signature["labels"])
        taken, preprocess = self.signature["input"], self.signature["preprocess"]
        self.is_any_size = "default_size" in taken
        sides = taken["shape"][2:] if taken["layout"] == "NCHW" else taken["shape"][1:3]
        self.height, self.width = taken.get("default_size") or sides
        self.channels = {"L": 1, "RGB": 3}[preprocess["color"]]
        self.sha256 = str(document["model"]["sha256"])
        model, *beside = [(file["path"], self._read_checked(file)) for file in (document["model"], *document["beside"])]
        self._input = str(taken["name"])
        self._session = _open(model[1], beside, threads, providers or ["CPUExecutionProvider"])
        self._process = os.getpid()

    def __call__(self, images: object) -> Predictions:
        """Classify one image or many.

        Args:
            images: A path, the bytes of an image file or a Pillow image, of any size; uint8 `(height, width, channels)`
                or `(batch, height, width, channels)` of the model's input size; or a list of these.

        Raises:
            ClassifierError: An array has another dtype or shape.
            ImageError: An image cannot be read.
            NoAnswerError: The model's outputs are NaN or infinite for an image.
        """
        pixels = self.pixels(images)
        fitting = max(1, BATCH_BYTES // (self.height * self.width * self.channels))
        size = min(MAX_BATCH, 1 << (fitting.bit_length() - 1))
        starts = range(0, max(len(pixels), 1), size)
        parts = [self.run(self.to_tensor(pixels[start : start + size])) for start in starts]
        logits, probabilities = (np.concatenate([part[name] for part in parts]) for name in OUTPUTS)
        is_answered = np.isfinite(logits).all(1) & np.isfinite(probabilities).all(1)
        if not is_answered.all():
            raise NoAnswerError(tuple(np.flatnonzero(~is_answered).tolist()), len(probabilities))
        indices = probabilities.argmax(1)
        labels = tuple(self.labels[index] for index in indices)
        return Predictions(labels, indices, probabilities, logits, self.labels)

    def run(self, tensor: NDArray[Any]) -> dict[str, NDArray[np.float32]]:
        """Run the model on a batch from `to_tensor`: output name -> `(batch, classes)`."""
        if self._process != os.getpid():
            raise ClassifierError(f"the model was opened before this process was forked. {AFTER_FORK}")
        return dict(zip(OUTPUTS, self._session.run(OUTPUTS, {self._input: tensor}), strict=True))

    def pixels(self, images: object) -> NDArray[np.uint8]:
        """Images, as in `__call__`, to uint8 `(batch, height, width, channels)`."""
        if isinstance(images, np.ndarray):
            return self._check(images[None] if images.ndim == 3 else images)
        many = [self._to_pixels(image) for image in (images if isinstance(images, (list, tuple)) else [images])]
        if len({image.shape for image in many}) > 1:
            raise ClassifierError(f"the images have the shapes {[image.shape for image in many]}, expected one shape.")
        return self._check(np.stack(many)) if many else np.empty((0, self.height, self.width, self.channels), np.uint8)

    def to_tensor(self, pixels: NDArray[np.uint8]) -> NDArray[Any]:
        """The model's input: the pixels unchanged, or normalised float32 `(batch, channels, height, width)`."""
        normalize = self.signature["normalize"]
        if normalize["in_model"]:
            return pixels
        mean, std = (np.asarray(normalize[name], np.float64).reshape(-1, 1, 1) for name in ("mean", "std"))
        scale, shift = (1 / (255 * std)).astype(np.float32), (-mean / std).astype(np.float32)
        planes = np.moveaxis(pixels, 3, 1).astype(np.float32)
        return np.ascontiguousarray(np.repeat(planes, normalize["repeat"], axis=1) * scale + shift)

    def self_test(self) -> SelfTest:
        """Run the golden samples in several batch sizes, compare with float64, and decode the reference images.

        A model of lower precision than float32 is compared with what it gave when it was built.

        Raises:
            ClassifierError: A file of `golden/` is missing or damaged.
        """
        golden = self._read_json("golden/golden.json")
        rows = [row for kind, samples in golden["kinds"].items() for row in self._judge(kind, samples, golden)]
        return SelfTest(
            tuple(row for row in rows if isinstance(row, ParityRow)),
            tuple(self._judge_card(card) for card in golden["cards"]),
            tuple(row for row in rows if isinstance(row, DeviationRow)),
            golden.get("precision", "float32"),
        )

    def __enter__(self) -> Classifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        del self._session

    def _to_pixels(self, image: object) -> NDArray[Any]:
        if isinstance(image, np.ndarray):
            return image
        try:
            if isinstance(image, (str, os.PathLike)):
                image = Path(image).read_bytes()
            if isinstance(image, (bytes, bytearray, memoryview)):
                with Image.open(io.BytesIO(image)) as opened:
                    return self._prepare(opened)
            if isinstance(image, Image.Image):
                return self._prepare(image)
        except UnidentifiedImageError as error:
            raise ImageError("not an image: Pillow does not know its format.") from error
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise ImageError(f"too large: more than {MAX_PIXELS:,} pixels.") from error
        except DECODING_ERRORS as error:
            raise ImageError(f"cannot be read: {error}") from error
        raise ClassifierError(
            f"a {type(image).__name__} is not an image; expected a path, bytes, Pillow image or array."
        )

    def _prepare(self, image: Image.Image) -> NDArray[np.uint8]:
        """Turn, convert, scale and crop as in training."""
        _check_pixels(*image.size)
        rule = self.signature["preprocess"]
        # AVIF's own rotation, which Pillow reports as an orientation, is a part of its decoding
        image = _to_8_bits(image, is_turned=rule.get("exif") == "apply" or image.format == "AVIF")
        image = image.convert(rule["color"])
        resample, shorter = FILTERS[rule["interpolation"]], rule["shorter_side_px"]
        if shorter is None:
            image = image.resize((self.width, self.height), resample)
        else:
            width, height = (shorter * side // min(image.size) for side in image.size)
            _check_pixels(width, height)
            left, top = round((width - self.width) / 2), round((height - self.height) / 2)
            box = (left, top, left + self.width, top + self.height)
            image = image.resize((width, height), resample).crop(box)
        return np.asarray(image, np.uint8).reshape(self.height, self.width, self.channels)

    def _check(self, pixels: NDArray[Any]) -> NDArray[np.uint8]:
        expected = ("height", "width") if self.is_any_size else (self.height, self.width)
        fits = pixels.ndim == 4 and pixels.shape[3] == self.channels
        if pixels.dtype != np.uint8 or not fits or not (self.is_any_size or pixels.shape[1:3] == expected):
            raise ClassifierError(
                f"the array is {pixels.dtype} {pixels.shape}, expected uint8 (batch, {expected[0]}, {expected[1]}, "
                f"{self.channels}): raw pixels, 0 to 255. A Pillow image may have any size."
            )
        return pixels

    def _judge(self, kind: str, samples: dict[str, Any], golden: dict[str, Any]) -> Iterator[ParityRow | DeviationRow]:
        """Onward's rules of parity and of a lower precision, explained in its docs/parity.md."""
        images = self._read_array(samples["input"])
        # kernels, and so errors, may differ by batch size
        batches = [[images[at : at + size] for at in range(0, len(images), size)] for size in golden["batch_sizes"]]
        ways = [[self.run(batch) for batch in grouping] for grouping in batches]
        for output, expected in samples["outputs"].items():
            found = np.stack([np.concatenate([outputs[output] for outputs in way]) for way in ways]).astype(np.float64)
            if "recorded" in expected:
                squares = np.square(found - self._read_array(expected["recorded"]))
                deviation = float(np.sqrt(squares.reshape(len(squares), -1).mean(1)).max())
                unit = expected["quantization_error"]
                ratio = deviation / unit
                passed = ratio <= golden["max_deviation_ratio"]
                yield DeviationRow(kind, output, len(images), deviation, unit, ratio, passed)
                continue
            reference, noise = self._read_array(expected["reference"]), expected["noise"]
            errors = np.abs(found - reference)
            error = float(errors.max())
            floor = noise["floor"] if noise["is_measured"] else 0.0
            if kind == CONSTANT:
                largest = max(golden["max_relative_error"] * noise["scale"], golden["max_noise_ratio"] * floor)
                passed = error <= largest
            elif noise["is_measured"]:
                passed = error / floor <= golden["max_noise_ratio"]
            else:  # the reference is PyTorch's float32: compare as torch.testing.assert_close
                close = golden["assert_close"]
                passed = bool((errors <= close["atol"] + close["rtol"] * np.abs(reference)).all())
            yield ParityRow(kind, output, len(images), error, noise["floor"], error / noise["floor"], passed)

    def _judge_card(self, card: dict[str, Any]) -> CardRow:
        expected = self._read_array(card["pixels"]).astype(np.int16)
        levels = np.abs(self._to_pixels(self._read(f"golden/{card['path']}")) - expected)
        most, mean = int(levels.max()), float(levels.mean())
        return CardRow(card["path"], most, mean, most <= card["max_levels"] and mean <= card["max_mean_levels"])

    def _read_array(self, entry: dict[str, Any]) -> NDArray[Any]:
        data = self._read(f"golden/{entry['path']}")
        dtype = np.dtype(entry["dtype"]).newbyteorder("<")
        if len(data) != math.prod(entry["shape"]) * dtype.itemsize:
            raise ClassifierError(f"golden/{entry['path']} has {len(data)} bytes, expected those of {entry['shape']}.")
        array: NDArray[Any] = np.frombuffer(data, dtype).reshape(entry["shape"])
        return array

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            return dict(json.loads(self._read(name)))
        except ValueError as error:
            raise ClassifierError(f"{self.folder / name} is damaged: {error}") from error

    def _read_checked(self, file: dict[str, Any]) -> bytes:
        data = self._read(file["path"])
        found = hashlib.sha256(data).hexdigest()
        if found != file["sha256"]:
            raise ClassifierError(
                f"{self.folder / file['path']} was changed: its SHA-256 is {found}, model.json expects "
                f"{file['sha256']}. Copy the file again, or run `onward embed` again."
            )
        return data

    def _read(self, name: str) -> bytes:
        try:
            return (self.folder / name).read_bytes()
        except OSError as error:
            raise ClassifierError(f"cannot read {self.folder / name}: {error}. Copy the folder again.") from error


def _open(
    model: bytes,
    beside: Sequence[tuple[str, bytes]],
    threads: int | None,
    providers: Sequence[str | tuple[str, dict[str, str]]],
) -> ort.InferenceSession:
    """A session of the bytes whose digests were checked."""
    named = [(item, PROVIDER_OPTIONS.get(item, {})) if isinstance(item, str) else item for item in providers]
    missing = {name for name, _ in named} - set(ort.get_available_providers())
    if missing:
        raise ClassifierError(
            f"onnxruntime has no {', '.join(missing)}; it has {', '.join(ort.get_available_providers())}."
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or _num_cores()
    options.log_severity_level = 3
    try:
        with _with_weights(model, beside, options) as source:
            session = ort.InferenceSession(source, options, providers=named)
    except Exception as error:  # onnxruntime's exceptions have no common base class
        raise ClassifierError(f"onnxruntime {ort.__version__} cannot open the model: {error}") from error
    if named[0][0] not in session.get_providers():
        raise ClassifierError(f"{named[0][0]} did not start; onnxruntime would run on {session.get_providers()}.")
    return session


@contextmanager
def _with_weights(
    model: bytes, beside: Sequence[tuple[str, bytes]], options: ort.SessionOptions
) -> Iterator[bytes | str]:
    """The model as this onnxruntime takes it with the bytes of its weights."""
    if not beside:
        yield model
    elif hasattr(options, "add_external_initializers_from_files_in_memory"):
        names, contents = zip(*beside, strict=True)
        options.add_external_initializers_from_files_in_memory(names, contents, [len(item) for item in contents])
        yield model
    else:  # an older onnxruntime
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            for name, content in (("model.onnx", model), *beside):
                Path(folder, name).write_bytes(content)
            yield str(Path(folder, "model.onnx"))


def _num_cores() -> int:
    """Cores that this process may use; onnxruntime's own default takes those of the machine."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _check_pixels(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise ImageError(f"too large: {width}×{height} pixels, at most {MAX_PIXELS:,}.")


def _to_8_bits(image: Image.Image, *, is_turned: bool) -> Image.Image:
    """A loaded image of 8 bits: of 16 or 12 bits the higher 8, as Pillow keeps them of colours but not of grey.

    Args:
        image: Any mode.
        is_turned: Whether its EXIF orientation is applied.

    Raises:
        ImageError: Nothing says which of its values are black and white.
    """
    num_bits = 12 if any(tile[3] and "I;12" in tile[3] for tile in getattr(image, "tile", ())) else 16
    image.load()
    turn = TURNS.get(_orientation(image)) if is_turned else None
    if image.mode == "F" or (image.mode == "I" and image.format not in WIDENED_FORMATS):
        raise ImageError(
            "its values are floating-point, signed or 32-bit numbers, which have no stated black and white: convert "
            "it to 8 or 16 bits."
        )
    if image.mode.startswith("I"):
        levels = np.asarray(image)
        if getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO:  # Pillow inverts 8 bits, but not 16
            levels = (1 << num_bits) - 1 - levels
        image = Image.fromarray((levels >> num_bits - 8).astype(np.uint8))
    return image if turn is None else image.transpose(turn)


def _orientation(image: Image.Image) -> int:
    """From 1 to 8; 1 if there is none, or if it cannot be read."""
    try:
        return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except (*DECODING_ERRORS, LookupError, ArithmeticError):
        return 1


def main(arguments: Sequence[str] | None = None) -> int:
    """The command. Exit code 0: success; 1: something failed; 2: wrong arguments."""
    parser = argparse.ArgumentParser(description="Classify images, or test the model on this machine.")
    parser.add_argument("images", nargs="*", metavar="IMAGE", help="JPEG, PNG or another format that Pillow reads")
    parser.add_argument("--top-k", type=int, default=1, metavar="N", help="print the N most probable labels")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    parser.add_argument("--self-test", action="store_true", help="run the golden samples and compare")
    parser.add_argument(
        "--threads", type=int, metavar="N", help="threads per inference (default: every core of the process)"
    )
    parser.add_argument("--provider", action="append", metavar="NAME", help="e.g. CUDAExecutionProvider")
    chosen = parser.parse_args(arguments)
    if chosen.self_test == bool(chosen.images):
        parser.error("give images or --self-test")
    if chosen.top_k < 1 or (chosen.threads is not None and chosen.threads < 1):
        parser.error("--top-k and --threads must be 1 or more")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a label may have characters that the terminal cannot show
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    try:
        with Classifier(threads=chosen.threads, providers=chosen.provider) as classifier:
            if chosen.self_test:
                found = classifier.self_test()
                print(_describe(found, classifier.sha256))
                return 0 if found.passed else 1
            return max([_classify(classifier, path, chosen.top_k, chosen.json) for path in chosen.images])
    except ClassifierError as error:
        print(f"error: {_visible(str(error))}", file=sys.stderr)
        return 1


def _classify(classifier: Classifier, path: str, top_k: int, as_json: bool) -> int:
    """Print one line."""
    try:
        found = classifier(path)
    except ImageError as error:
        print(_visible(f"{path}: {error}"), file=sys.stderr)
        return 1
    except NoAnswerError:
        print(_visible(f"{path}: no answer, because the model's outputs are NaN or infinite."), file=sys.stderr)
        return 1
    print((_to_json if as_json else _to_text)(path, found, top_k))
    return 0


def _to_text(path: str, found: Predictions, top_k: int) -> str:
    (top,) = found.top(top_k)
    return _visible(f"{path}: {', '.join(f'{label} {100 * value:.1f} %' for label, value in top)}")


def _to_json(path: str, found: Predictions, top_k: int) -> str:
    """The same fields as the JSON Lines of `onward predict`."""
    best = np.argsort(-found.probabilities[0], kind="stable")[:top_k].tolist()
    top = [
        {"label": found.classes[index], "index": index, "probability": float(found.probabilities[0, index])}
        for index in best
    ]
    return json.dumps({"input": path, **top[0], **({"top": top} if len(top) > 1 else {})})


def _describe(found: SelfTest, sha256: str) -> str:
    """The results as tables and a verdict."""
    rows = [
        (row.kind, row.output, str(row.num_samples), f"{row.error:.1e}", f"{row.noise_floor:.1e}")
        + (f"{row.noise_ratio:.2f}", _mark(row.passed))
        for row in found.rows
    ]
    columns = ("error", "PyTorch's", "noise ratio")
    if found.deviations:
        columns = ("deviation", "quantisation error", "ratio")
        rows = [
            (row.kind, row.output, str(row.num_samples), f"{row.deviation:.1e}", f"{row.quantization_error:.1e}")
            + (f"{row.deviation_ratio:.2f}", _mark(row.passed))
            for row in found.deviations
        ]
    cards = [
        (card.card, f"{card.max_levels} of 255", f"{card.mean_levels:.2f}", _mark(card.passed)) for card in found.cards
    ]
    is_decoded = all(card.passed for card in found.cards)
    return "\n".join(
        [
            f"The model is the file that model.json names (SHA-256 {sha256[:12]}…).",
            "",
            _table(("samples", "output", "images", *columns, ""), rows),
            "",
            _table(("reference image", "max difference", "mean", ""), cards),
            "",
            "Passed." if found.passed else "Failed.",
            *_in_words(found),
            f"  Images {'are' if is_decoded else 'are not'} decoded and scaled as in training.",
        ]
    )


def _in_words(found: SelfTest) -> Iterator[str]:
    """The verdict on the model."""
    if not found.deviations:
        verb = "is" if found.model_passed else "is not"
        yield f"  The model {verb} as accurate as PyTorch here: noise ratio {found.noise_ratio:.2f}."
        return
    verb = "computes" if found.model_passed else "does not compute"
    yield (
        f"  The model ({found.precision}) {verb} here what was measured when it was built: deviation ratio "
        f"{found.deviation_ratio:.2f}."
    )
    if not found.model_passed:
        yield "  Another processor or onnxruntime may compute it otherwise. Use the float32 model here."


def _mark(passed: bool) -> str:
    return "ok" if passed else "FAILED"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Align the columns."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows)]
    return "\n".join(lines)


def _visible(text: str) -> str:
    """Escape line breaks, control characters and marks that turn the direction of text: a label may be any text."""
    return OBEYED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


if __name__ == "__main__":
    sys.exit(main())
