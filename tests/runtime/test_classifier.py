from __future__ import annotations

import io
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

import onward
from onward.backends import Threads
from onward.bundle import MANIFEST, Bundle
from onward.bundle.verification import verify
from onward.classifier import Classifier, default_batch_size, load
from onward.errors import BundleError, FeedError, ImageError, ProviderError, UsageError
from onward.signature import Preprocess, Signature
from onward.tasks.classification import Predictions
from tests.image_files import encode, exif_of
from tests.needs import PT2, needs_torch


@pytest.fixture(scope="module")
def classifier(shared_bundle: Bundle) -> Classifier:
    return load(shared_bundle.path)


class Entry:
    """A path that is no `Path`, such as those of `os.scandir`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        return str(self.path)


def png(pixels: NDArray[np.uint8]) -> bytes:
    data = io.BytesIO()
    Image.fromarray(pixels[..., 0]).save(data, "PNG")
    return data.getvalue()


def assert_same(found: Predictions, expected: Predictions) -> None:
    assert found.labels == expected.labels
    for part in ("indices", "probabilities", "logits"):
        np.testing.assert_array_equal(getattr(found, part), getattr(expected, part))


def test_a_batch_gives_a_prediction_for_each_image(classifier: Classifier, pixels: NDArray[np.uint8]) -> None:
    predictions = classifier(pixels)
    assert len(predictions) == len(pixels)
    assert predictions.logits.shape == predictions.probabilities.shape == (len(pixels), 10)
    np.testing.assert_array_equal(predictions.indices, predictions.probabilities.argmax(1))
    assert predictions.labels == tuple(classifier.signature.labels[index] for index in predictions.indices)


def test_one_array_is_a_batch_of_one(classifier: Classifier, pixels: NDArray[np.uint8]) -> None:
    assert_same(classifier(pixels[0]), classifier(pixels[:1]))


def test_every_way_to_give_an_image_gives_the_same(
    classifier: Classifier, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = tmp_path / "digit.png"
    path.write_bytes(png(pixels[0]))
    data = path.read_bytes()
    given = (path, str(path), data, bytearray(data), memoryview(data), io.BytesIO(data), np.bytes_(data), Entry(path))
    for image in (*given, Image.fromarray(pixels[0, ..., 0]), [path], (pixels[0],)):
        assert_same(classifier(image), classifier(pixels[:1]))


def test_a_list_may_mix_them(classifier: Classifier, pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    (tmp_path / "digit.png").write_bytes(png(pixels[2]))
    mixed = [pixels[0], png(pixels[1]), tmp_path / "digit.png", Image.fromarray(pixels[3, ..., 0])]
    assert_same(classifier(mixed), classifier(pixels[:4]))


def test_more_images_than_a_batch_holds_arrive_in_order(classifier: Classifier, pixels: NDArray[np.uint8]) -> None:
    many = np.tile(pixels, (60, 1, 1, 1))
    assert len(many) > 2 * default_batch_size(classifier.signature)
    assert classifier(many).labels == classifier(pixels).labels * 60


def test_no_images_give_no_predictions(classifier: Classifier, pixels: NDArray[np.uint8]) -> None:
    for nothing in (pixels[:0], []):
        predictions = classifier(nothing)
        assert len(predictions) == 0
        assert predictions.probabilities.shape == (0, 10)


@pytest.mark.parametrize(
    ("shape", "dtype", "said"),
    [
        ((8, 8), np.uint8, "expected"),
        ((2, 8, 8), np.uint8, "channel axis is missing"),
        ((1, 8, 8), np.uint8, r"the channel axis comes last, \(8, 8, 1\)"),
        ((2, 8, 8, 3), np.uint8, "3 channels"),
        ((2, 8, 8, 1), np.float32, "expected uint8"),
        ((8, 8, 1), np.float64, "expected uint8"),
    ],
)
def test_an_array_that_does_not_fit_is_a_feed_error(
    classifier: Classifier, shape: tuple[int, ...], dtype: type, said: str
) -> None:
    with pytest.raises(FeedError, match=said):
        classifier(np.zeros(shape, dtype))


def test_a_list_of_arrays_of_two_shapes_is_a_feed_error(classifier: Classifier, pixels: NDArray[np.uint8]) -> None:
    with pytest.raises(FeedError):
        classifier([pixels[0], pixels[1, :7]])


@pytest.mark.parametrize("thing", [None, 5, {"image": 1}, [None], ["digit.png", 5]])
def test_what_is_no_image_is_an_error_of_ours(classifier: Classifier, thing: Any) -> None:
    with pytest.raises((FeedError, ImageError)):
        classifier(thing)


def test_an_unreadable_image_is_an_image_error(classifier: Classifier, tmp_path: Path) -> None:
    for image in (b"text", tmp_path / "missing.png", str(tmp_path)):
        with pytest.raises(ImageError):
            classifier(image)


def test_the_failing_image_of_a_list_is_named_by_position_and_path(
    classifier: Classifier, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = tmp_path / "broken.png"
    path.write_text("text")
    for images, named in (
        ([pixels[0], path, path], f"images[1], {path}: not an image"),
        ([pixels[0], pixels[0], b"text"], "images[2]: not an image"),
        (str(path), f"{path}: not an image"),
        ([pixels[0], pixels[1, :7]], "images[1] has the shape (7, 8, 1), but images[0] (8, 8, 1)"),
        ([pixels[0], None], "images[1]: a NoneType is no image"),
    ):
        with pytest.raises((ImageError, FeedError)) as caught:
            classifier(images)
        assert str(caught.value).startswith(named)


def test_exif_replaces_the_signatures_rule(shared_bundle: Bundle, pixels: NDArray[np.uint8]) -> None:
    photograph = encode(Image.fromarray(pixels[0, ..., 0]), exif=exif_of(6))
    upright = np.rot90(pixels[0], -1).copy()
    with load(shared_bundle.path) as plain, load(shared_bundle.path, exif="apply") as turning:
        assert_same(plain(photograph), plain(pixels[:1]))
        assert_same(turning(photograph), plain(upright))
        assert turning.signature == replace(shared_bundle.signature, preprocess=Preprocess(exif="apply"))
        assert turning.verify().passed
    with pytest.raises(UsageError, match="exif is 'upright', expected ignore or apply"):
        load(shared_bundle.path, exif="upright")


def test_a_pillow_image_cut_short_is_an_image_error(classifier: Classifier) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 1), np.uint8)
    whole = png(noise)
    with pytest.raises(ImageError), Image.open(io.BytesIO(whole[: len(whole) // 2])) as image:
        classifier(image)


def test_it_is_a_context_manager(shared_bundle: Bundle, pixels: NDArray[np.uint8]) -> None:
    with load(str(shared_bundle.path), threads=Threads(1)) as classifier:
        assert len(classifier(pixels)) == len(pixels)
        assert classifier.signature == shared_bundle.signature


@needs_torch
@pytest.mark.parametrize("artifact", ["torchscript", PT2])
def test_every_artifact_gives_the_same_labels(
    classifier: Classifier, shared_bundle: Bundle, pixels: NDArray[np.uint8], artifact: str
) -> None:
    with load(shared_bundle.path, artifact=artifact) as other:
        assert other(pixels).labels == classifier(pixels).labels


@pytest.mark.parametrize("artifact", ["onnx", pytest.param("torchscript", marks=needs_torch)])
def test_it_proves_itself_with_the_backend_that_is_open(shared_bundle: Bundle, artifact: str) -> None:
    with load(shared_bundle.path, artifact=artifact) as classifier:
        found = classifier.verify()
    (expected,) = verify(shared_bundle, artifacts=[artifact])
    assert found.verdict is not None
    assert expected.verdict is not None
    assert found.passed
    assert found.artifact == artifact
    assert found.verdict.noise_ratio == pytest.approx(expected.verdict.noise_ratio)


def test_what_was_changed_since_it_was_opened_is_not_vouched_for(shared_bundle: Bundle, tmp_path: Path) -> None:
    copy = tmp_path / "bundle"
    shutil.copytree(shared_bundle.path, copy)
    classifier = load(copy)
    with (copy / "model.onnx").open("ab") as file:
        file.write(b"more")
    with pytest.raises(BundleError, match=r"model\.onnx was changed"):
        classifier.verify()


def test_threads_may_share_it(classifier: Classifier, pixels: NDArray[np.uint8]) -> None:
    expected = [classifier(image) for image in pixels]
    with ThreadPoolExecutor(8) as pool:
        for found, alone in zip(pool.map(classifier, [*pixels] * 8), expected * 8, strict=True):
            assert_same(found, alone)


def test_what_cannot_be_opened_says_why(shared_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="is not a bundle"):
        load(tmp_path)
    with pytest.raises(BundleError, match="no artifact 'tflite'"):
        load(shared_bundle.path, artifact="tflite")
    with pytest.raises(ProviderError, match="'gpu' is unknown"):
        load(shared_bundle.path, provider="gpu")


@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([1, 3]))
def test_the_default_batch_is_a_power_of_two_of_up_to_4_mib(height: int, width: int, channels: int) -> None:
    signature = Signature(height, width, channels, (0.5,) * channels, (0.5,) * channels, ("a", "b"))
    size, image_bytes = default_batch_size(signature), height * width * channels
    assert size == 1 << (size.bit_length() - 1) <= 1024
    assert size == 1 or size * image_bytes <= 4 << 20
    assert size == 1024 or 2 * size * image_bytes > 4 << 20


def test_what_looks_like_an_image_but_is_none_says_what_to_do(classifier: Classifier, tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"^https://example\.org/cat\.png is an address, and Onward downloads nothing"):
        classifier("https://example.org/cat.png")
    (tmp_path / "cat.png").write_text("cat")
    with (tmp_path / "cat.png").open() as file, pytest.raises(FeedError, match="open it with mode 'rb'"):
        classifier(file)


@pytest.mark.parametrize("threads", [1, np.int64(2), Threads(1), None])
def test_threads_are_a_number(
    shared_bundle: Bundle, classifier: Classifier, pixels: NDArray[np.uint8], threads: Any
) -> None:
    with onward.load(shared_bundle.path, threads=threads, spin=False, provider=["cpu"]) as opened:
        assert_same(opened(pixels[:3]), classifier(pixels[:3]))


@pytest.mark.parametrize("threads", [0, -1, 1.5, "two"])
def test_a_number_of_threads_that_is_none_is_a_usage_error(shared_bundle: Bundle, threads: Any) -> None:
    with pytest.raises(UsageError, match="expected a whole number from 1"):
        onward.load(shared_bundle.path, threads=threads)


def test_it_says_what_it_is(shared_bundle: Bundle) -> None:
    with onward.load(shared_bundle.path, threads=1) as opened:
        assert repr(opened) == (
            f"<Classifier of {shared_bundle.path}: uint8 (batch, 8, 8, 1) → 10 classes (0, 1, 2, …); "
            "onnx (CPU) in onnxruntime, 1 thread>"
        )


def test_a_closed_classifier_says_so(shared_bundle: Bundle, pixels: NDArray[np.uint8]) -> None:
    opened = load(shared_bundle.path)
    opened.close()
    opened.close()
    assert repr(opened) == f"<Classifier of {shared_bundle.path}: closed>"
    for call in (lambda: opened(pixels), opened.verify):
        with pytest.raises(UsageError, match=r"is closed; `onward\.load` opens another one"):
            call()


def test_it_is_pickled_as_path_and_options(
    shared_bundle: Bundle, classifier: Classifier, pixels: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(shared_bundle.path.parent)
    data = pickle.dumps(onward.load(shared_bundle.path.name, threads=1))
    assert len(data) < 2000
    monkeypatch.chdir("/")
    assert_same(pickle.loads(data)(pixels[:3]), classifier(pixels[:3]))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert_same(pool.submit(classifier, pixels[:3]).result(), classifier(pixels[:3]))


def test_a_pickled_classifier_does_not_open_another_bundle(bundle: Bundle) -> None:
    data = pickle.dumps(load(bundle.path))
    other = replace(bundle, provenance={**bundle.provenance, "made": "later"})
    (bundle.path / MANIFEST).write_text(json.dumps(other.to_json()))
    with pytest.raises(BundleError, match="is not the bundle of the classifier that was pickled"):
        pickle.loads(data)


def test_nothing_is_sent_to_the_maker_of_onnxruntime(shared_bundle: Bundle, tmp_path: Path) -> None:
    """onnxruntime's telemetry keeps an identifier and a database in the user's cache."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "ORT_"))}
    environment |= {"HOME": str(tmp_path), "ONWARD_STATE": str(tmp_path / "state")}
    code = f"import os, onward; onward.load({str(shared_bundle.path)!r}); print(os.environ['ORT_DISABLE_TELEMETRY'])"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert list(tmp_path.iterdir()) == []
    environment["ORT_DISABLE_TELEMETRY"] = "0"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"


FORK = """
import os, sys
{first}
import numpy as np
import onward
classifier = onward.load(sys.argv[1], threads=2)
pixels = np.arange(512 * 64, dtype=np.uint8).reshape(512, 8, 8, 1)
expected = classifier(pixels).labels
child = os.fork()
if not child:
    print(classifier(pixels).labels == expected)
    sys.exit(3)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), classifier(pixels).labels == expected)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("first", ["", "import onnxruntime"], ids=["", "with telemetry"])
def test_a_forked_child_classifies_and_ends_with_its_exit_code(shared_bundle: Bundle, first: str) -> None:
    # since 3.12, Python warns of every fork of a process with threads
    options = ("-W", "ignore::DeprecationWarning", "-c", FORK.format(first=first))
    command = [sys.executable, *options, str(shared_bundle.path)]
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.stdout.split(), done.stderr) == (["True", "3", "True"], "")
