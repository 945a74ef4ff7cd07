"""Data sets: splits, signatures, and what cannot be used said in a sentence."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from runtime.errors import DataError, UsageError
from training.data import Dataset, Split, load
from training.data.dataset import divide, measure_signature
from training.data.idx_files import FILES, find_folder


def write_idx(path: Path, array: np.ndarray, *, zipped: bool = False) -> None:
    data = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
    path.write_bytes(gzip.compress(data) if zipped else data)


@pytest.fixture
def idx_folder(tmp_path: Path) -> Path:
    """A small data set in MNIST's four files, one of them gzipped."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 60), ("test", 20)):
        images, targets = FILES[split]
        write_idx(tmp_path / images, generator.integers(0, 256, (count, 28, 28), np.uint8))
        write_idx(tmp_path / f"{targets}.gz", (np.arange(count) % 10).astype(np.uint8), zipped=True)
    return tmp_path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(1)
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(10):
            pixels = generator.integers(0, 256, (20, 30, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{index}.png")
    return tmp_path / "photos"


def test_digits_are_all_there_each_once(digits: Dataset) -> None:
    splits = (digits.train, digits.validation, digits.test)
    assert sum(map(len, splits)) == 1797
    assert digits.train.images.shape[1:] == (8, 8, 1)
    assert (digits.train.images.min(), digits.train.images.max()) == (0, 255)


def test_the_test_split_does_not_depend_on_the_seed(digits: Dataset) -> None:
    other = load("digits", seed=1)
    np.testing.assert_array_equal(other.test.images, digits.test.images)
    assert not np.array_equal(other.validation.images, digits.validation.images)


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_dividing_loses_and_doubles_nothing_and_takes_the_same_share_of_each_class(share: float) -> None:
    images = np.arange(200, dtype=np.uint8).reshape(200, 1, 1, 1)
    left, taken = divide(Split(images, np.arange(200) % 4), share)
    assert sorted([*left.images.ravel(), *taken.images.ravel()]) == list(range(200))
    assert np.bincount(taken.targets).tolist() == [round(50 * share)] * 4


def test_the_signature_has_the_mean_and_deviation_of_the_training_images(digits: Dataset) -> None:
    pixels = digits.train.images / 255
    assert digits.signature.mean == (round(float(pixels.mean()), 4),)
    assert digits.signature.std == (round(float(pixels.std()), 4),)


def test_images_of_one_value_still_have_a_deviation_above_0() -> None:
    signature = measure_signature(Split(np.zeros((4, 2, 2, 1), np.uint8), np.zeros(4, np.int64)), ("a", "b"))
    assert signature.std == (1e-4,)


def test_idx_files_are_read_from_data_dir(idx_folder: Path) -> None:
    dataset = load("mnist", data_dir=idx_folder)
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (50, 10, 20)
    assert dataset.signature.labels == tuple("0123456789")


def test_idx_files_are_found_where_onward_data_says(idx_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = idx_folder.parent / "shared"
    shutil.copytree(idx_folder, place / "mnist")
    monkeypatch.setenv("ONWARD_DATA", str(place))
    assert find_folder("mnist") == place / "mnist"


def test_a_data_dir_without_the_files_says_which_it_expects(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="train-images-idx3-ubyte"):
        load("fashion-mnist", data_dir=tmp_path)


def test_images_and_labels_that_do_not_match_are_refused(idx_folder: Path) -> None:
    write_idx(idx_folder / FILES["train"][0], np.zeros((59, 28, 28), np.uint8))
    with pytest.raises(DataError, match=r"shape \(59, 28, 28\)"):
        load("mnist", data_dir=idx_folder)


def test_a_label_out_of_range_is_refused(idx_folder: Path) -> None:
    write_idx(idx_folder / f"{FILES['test'][1]}.gz", np.full(20, 11, np.uint8), zipped=True)
    with pytest.raises(DataError, match="labels from 11 to 11, expected 0 to 9"):
        load("mnist", data_dir=idx_folder)


def test_a_folder_has_one_class_for_each_folder_in_it(folder: Path) -> None:
    dataset = load(f"folder:{folder}")
    assert dataset.signature.labels == ("cat", "dog")
    assert dataset.signature.image_shape == (20, 30, 3)
    assert not dataset.is_public
    assert dataset.name == "folder"
    assert sum(map(len, (dataset.train, dataset.validation, dataset.test))) == 20


def test_folders_named_train_and_test_are_taken_as_such(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "split"
    shutil.copytree(folder, root / "train")
    shutil.copytree(folder, root / "test")
    dataset = load(f"folder:{root}")
    assert len(dataset.test) == 20
    assert len(dataset.train) + len(dataset.validation) == 20


def test_an_image_size_is_what_images_become(folder: Path) -> None:
    assert load(f"folder:{folder}", image_size=(16, 12)).train.images.shape[1:] == (16, 12, 3)


def test_grey_folders_stay_grey(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        Image.open(path).convert("L").save(path)
    assert load(f"folder:{folder}").signature.channels == 1


def test_an_unreadable_image_is_named(folder: Path) -> None:
    (folder / "cat" / "3.png").write_text("no picture")
    with pytest.raises(DataError, match=r"3\.png"):
        load(f"folder:{folder}")


def test_an_empty_class_is_named(folder: Path) -> None:
    (folder / "eel").mkdir()
    with pytest.raises(DataError, match=r"eel holds no image"):
        load(f"folder:{folder}")


@pytest.mark.parametrize("name", ["cifar", "folder:", "folder:/nowhere"])
def test_what_there_is_not_is_an_error(name: str) -> None:
    with pytest.raises(DataError):
        load(name)


def test_an_image_size_for_a_data_set_that_has_its_own_is_refused() -> None:
    with pytest.raises(UsageError, match="image size of its own"):
        load("digits", image_size=(16, 16))


def test_fashion_mnist_is_the_real_one(fashion_mnist: Dataset) -> None:
    assert len(fashion_mnist.train) + len(fashion_mnist.validation) == 60_000
    assert np.bincount(fashion_mnist.test.targets).tolist() == [1000] * 10
    assert fashion_mnist.signature.mean == pytest.approx((0.286,), abs=1e-3)  # known to three places
