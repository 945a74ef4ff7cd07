"""Data sets: splits, signatures, and what cannot be used said in a sentence."""

from __future__ import annotations

import gzip
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onward.errors import DataError, UsageError
from onward.images.decode import read_image
from onward.signature import Preprocess, Signature
from onward_training.data import Dataset, FileSplit, Split, class_weights, load
from onward_training.data.dataset import measure_signature
from onward_training.data.folder import load_folder
from onward_training.data.idx_files import FILES, find_folder
from onward_training.data.split import divide
from tests.image_files import exif_of


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


@pytest.fixture(scope="module")
def fake() -> Dataset:
    return load("fake")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    generator = np.random.default_rng(1)
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for index in range(10):
            pixels = generator.integers(0, 256, (20, 30, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / label / f"{index}.png")
    return tmp_path / "photos"


def test_a_folder_with_too_few_images_says_how_many_it_takes(folder: Path) -> None:
    for image in folder.rglob("[1-9].png"):
        image.unlink()
    with pytest.raises(DataError, match=r"none is left for validation and test. A class with at least 3 gives one"):
        load(f"folder:{folder}")


def cut_short(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def num_images(dataset: Dataset) -> int:
    return sum(map(len, (dataset.train, dataset.validation, dataset.test)))


def test_digits_are_all_there_each_once(digits: Dataset) -> None:
    splits = (digits.train, digits.validation, digits.test)
    assert sum(map(len, splits)) == 1797
    assert digits.train.images.shape[1:] == (8, 8, 1)
    assert (digits.train.images.min(), digits.train.images.max()) == (0, 255)


def test_digits_are_scikit_learns(digits: Dataset) -> None:
    from sklearn.datasets import load_digits

    theirs = np.sort(np.rint(load_digits().images * (255 / 16)).astype(np.uint8).reshape(1797, -1), axis=0)
    ours = np.concatenate([split.images for split in (digits.train, digits.validation, digits.test)])
    np.testing.assert_array_equal(np.sort(ours.reshape(1797, -1), axis=0), theirs)


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
    with pytest.raises(DataError, match="'mnist' has labels from 11 to 11, expected 0 to 9: 20 of its 20 test labels"):
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


@pytest.mark.parametrize("streaming", [False, True])
def test_an_unreadable_image_is_left_out_and_counted(folder: Path, streaming: bool) -> None:
    (folder / "cat" / "3.png").write_text("no picture")
    dataset = load(f"folder:{folder}", streaming=streaming)
    assert num_images(dataset) == 19
    assert dataset.notes == (
        "1 of 20 images could not be read and was left out, e.g. cat/3.png: not an image: Pillow recognises no "
        "format in its content",
    )


def test_an_image_cut_short_is_found_when_it_is_decoded(folder: Path) -> None:
    cut_short(folder / "dog" / "5.png")
    in_memory, streamed = (load(f"folder:{folder}", streaming=streaming) for streaming in (False, True))
    assert num_images(in_memory) == 19
    assert "1 of 20 images could not be read and was left out, e.g. dog/5.png: cannot be" in in_memory.notes[0]
    splits = (streamed.train, streamed.validation, streamed.test)
    assert sum(len(split.read(slice(None))[1]) for split in splits) == 19
    assert [path.name for split in splits if isinstance(split, FileSplit) for path in split.failures] == ["5.png"]


def test_a_folder_of_which_more_than_a_tenth_cannot_be_read_is_refused(folder: Path) -> None:
    for index in range(3):
        cut_short(folder / "dog" / f"{index}.png")
    with pytest.raises(DataError, match=r"3 of 20 images .* e.g. dog/0.png.*something is wrong with the folder"):
        load(f"folder:{folder}")


@pytest.mark.parametrize("damage", [lambda path: path.write_text("no picture"), lambda path: cut_short(path)])
def test_a_class_of_which_no_image_can_be_read_is_named(folder: Path, damage: Callable[[Path], None]) -> None:
    (folder / "eel").mkdir()
    shutil.copy(folder / "cat" / "0.png", folder / "eel" / "0.png")
    damage(folder / "eel" / "0.png")
    with pytest.raises(DataError, match=r"no train image of the class 'eel' can be read, e\.g\. .*0\.png"):
        load(f"folder:{folder}")


def test_images_of_mixed_size_and_colour_become_alike_and_are_counted(folder: Path) -> None:
    Image.new("L", (50, 40)).save(folder / "cat" / "a.jpg")
    Image.new("RGBA", (30, 20)).save(folder / "dog" / "b.png")
    Image.new("P", (30, 21)).save(folder / "dog" / "c.gif")
    dataset = load(f"folder:{folder}")
    assert dataset.signature.image_shape == (20, 30, 3)
    assert dataset.notes == ("images of 3 sizes become 20×30; 20 RGB, 1 L, 1 RGBA, 1 P become RGB",)


def test_16_bits_floats_and_other_files_of_a_folder_are_counted(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        levels = np.random.default_rng(2).integers(0, 65536, (20, 30), np.uint16)
        Image.fromarray(levels).save(path)
    Image.fromarray(np.zeros((20, 30), np.float32)).save(folder / "cat" / "float.tif")
    Image.new("L", (30, 20)).save(folder / "dog" / "x.jfif", "JPEG")
    (folder / "dog" / "x.xmp").write_text("sidecar")
    dataset = load(f"folder:{folder}")
    assert dataset.signature.image_shape == (20, 30, 1)
    np.testing.assert_array_equal(dataset.test.read(slice(1))[0][0, ..., 0], levels >> 8)
    conversion, lost, others = dataset.notes
    assert "of 20 images with 16 bits the higher 8 bits of each value are kept" in conversion
    assert "1 of 22 images could not be read" in lost
    assert "float.tif: its values are floating-point, signed or 32-bit" in lost
    assert others == "left alone, because their names do not end as an image's: 1 .xmp"


def test_a_folder_is_read_as_imagefolder_reads_it_unless_exif_says_otherwise(folder: Path) -> None:
    stored = {}
    for path in sorted(folder.rglob("*.png")):
        stored[path] = np.asarray(Image.open(path))
        Image.fromarray(stored[path]).save(path, exif=exif_of(6))
    as_stored = load(f"folder:{folder}", streaming=True)
    assert (as_stored.signature.image_shape, as_stored.signature.preprocess.exif) == ((20, 30, 3), "ignore")
    turned = load(f"folder:{folder}", streaming=True, exif="apply")
    assert (turned.signature.image_shape, turned.signature.preprocess.exif) == ((30, 20, 3), "apply")
    for dataset, turns in ((as_stored, 0), (turned, -1)):
        assert isinstance(dataset.train, FileSplit)
        for path, image in zip(dataset.train.paths, dataset.train.read(slice(None))[0], strict=True):
            np.testing.assert_array_equal(image, np.rot90(stored[path], turns))
    assert as_stored.digest() != turned.digest()
    like = load(f"folder:{folder}", like=turned.signature).signature
    assert like.preprocess.exif == "apply"
    with pytest.raises(UsageError, match="exif is only for folder:PATH"):
        load("digits", exif="apply")


def test_images_with_an_orientation_are_counted(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        Image.open(path).save(path.with_suffix(".jpg"), exif=exif_of(8))
        path.unlink()
    ignored, applied = load(f"folder:{folder}"), load(f"folder:{folder}", exif="apply")
    assert ignored.notes == (
        "20 images have an EXIF orientation, which is ignored, as by ImageFolder; --exif apply turns them",
    )
    assert applied.notes == ("20 images have an EXIF orientation, which is applied",)


def test_images_alike_need_no_note(folder: Path) -> None:
    assert load(f"folder:{folder}").notes == ()


def test_large_images_are_made_smaller_and_the_note_says_so(folder: Path) -> None:
    for path in folder.rglob("*.png"):
        Image.open(path).resize((200, 100)).save(path)
    assert load(f"folder:{folder}").notes == ("images of 100×200 become 64×64",)


def test_a_preprocess_is_what_prepares_the_images(folder: Path) -> None:
    rule = Preprocess("shorter-side", 24, "bicubic")
    dataset = load(f"folder:{folder}", image_size=(16, 16), preprocess=rule)
    assert dataset.signature.preprocess == rule
    expected = {read_image(path, dataset.signature).tobytes() for path in folder.rglob("*.png")}
    splits = (dataset.train, dataset.validation, dataset.test)
    assert {image.tobytes() for split in splits for image in split.read(slice(None))[0]} == expected
    assert "20×30 become 16×16 (shorter side to 24, then the centre)" in dataset.notes[0]


def test_a_folder_takes_the_form_of_a_signature_that_it_shall_be_like(folder: Path) -> None:
    like = Signature(10, 12, 1, (0.5,), (0.5,), ("a", "b"), Preprocess("shorter-side", 14))
    found = load(f"folder:{folder}", like=like).signature
    assert (found.image_shape, found.preprocess) == (like.image_shape, like.preprocess)
    assert found.labels == ("cat", "dog")
    assert load("fake", like=like).signature.image_shape == (10, 12, 1)


def test_streamed_images_are_those_in_memory(folder: Path) -> None:
    in_memory, streamed = (load(f"folder:{folder}", streaming=streaming, seed=3) for streaming in (False, True))
    assert streamed.signature == in_memory.signature
    for name in ("train", "validation", "test"):
        split, other = getattr(streamed, name), getattr(in_memory, name)
        assert isinstance(split, FileSplit)
        assert isinstance(other, Split)
        assert (len(split), split.image_shape) == (len(other), other.image_shape)
        for found, expected in zip(split.read(slice(None)), other.read(slice(None)), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_a_folder_streams_where_its_training_images_are_too_large_for_memory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    num_bytes = len(load(f"folder:{folder}").train) * 20 * 30 * 3
    monkeypatch.setattr("onward_training.data.folder.LARGEST_IN_MEMORY_BYTES", num_bytes)
    assert isinstance(load(f"folder:{folder}").train, Split)
    monkeypatch.setattr("onward_training.data.folder.LARGEST_IN_MEMORY_BYTES", num_bytes - 1)
    assert isinstance(load(f"folder:{folder}").train, FileSplit)


def test_mean_and_deviation_of_a_stream_are_those_of_a_sample(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onward_training.data.folder.NUM_MEASURED", 5)
    one, other = (load_folder(folder, streaming=True).signature for _ in range(2))
    assert one == other
    whole = load_folder(folder).signature
    assert one.mean != whole.mean
    assert one.mean == pytest.approx(whole.mean, abs=0.02)


def test_reading_files_keeps_order_and_leaves_out_what_is_gone(folder: Path) -> None:
    split = load(f"folder:{folder}", streaming=True).train
    assert isinstance(split, FileSplit)
    where = np.array([4, 0, 4, 2])
    images, targets = split.read(where)
    for index, image, target in zip(where, images, targets, strict=True):
        np.testing.assert_array_equal(image, read_image(split.paths[index], split.signature))
        assert target == split.targets[index]
    split.paths[0].unlink()
    assert len(split.read(where)[1]) == 3
    assert list(split.failures) == [split.paths[0]]
    assert split.read(np.array([], np.int64))[0].shape == (0, 20, 30, 3)
    assert list(split.take(np.array([0, 1])).failures) == [split.paths[0]]


@pytest.mark.parametrize("label", ["red panda", "Füchse", "狐", "a&b, c"])
def test_a_class_may_have_any_name(folder: Path, label: str) -> None:
    (folder / "cat").rename(folder / label)
    assert label in load(f"folder:{folder}").signature.labels


def test_images_in_folders_within_a_class_belong_to_it(folder: Path) -> None:
    (folder / "cat" / "2024" / "may").mkdir(parents=True)
    shutil.move(folder / "cat" / "0.png", folder / "cat" / "2024" / "may" / "0.png")
    assert num_images(load(f"folder:{folder}")) == 20


def test_hidden_files_and_folders_are_ignored(folder: Path) -> None:
    for place in (".thumbnails", "cat/.cache", "__MACOSX"):
        (folder / place).mkdir()
        (folder / place / "1.png").write_text("no picture")
    (folder / "dog" / "._1.png").write_text("what macOS leaves behind")
    dataset = load(f"folder:{folder}")
    assert (num_images(dataset), dataset.signature.labels, dataset.notes) == (20, ("cat", "dog"), ())


def test_images_beside_the_class_folders_are_left_out_and_counted(folder: Path) -> None:
    shutil.copy(folder / "cat" / "0.png", folder / "cover.png")
    (folder / "readme.txt").write_text("no image, and no matter")
    dataset = load(f"folder:{folder}")
    assert num_images(dataset) == 20
    assert dataset.notes == ("left out: 1 image outside the class folders, e.g. cover.png",)


@pytest.mark.parametrize("target", [".", "..", "../.."])
def test_links_to_folders_lead_nowhere_and_are_counted(folder: Path, target: str) -> None:
    (folder / "cat" / "loop").symlink_to(target, target_is_directory=True)
    dataset = load(f"folder:{folder}")
    assert num_images(dataset) == 20
    assert dataset.notes == ("left out: 1 linked folder, e.g. cat/loop",)


def test_a_class_folder_may_be_a_link(folder: Path, tmp_path: Path) -> None:
    shutil.move(folder / "cat", tmp_path / "elsewhere")
    (folder / "cat").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert num_images(load(f"folder:{folder}")) == 20


@pytest.mark.parametrize("name", ["val", "test"])
def test_a_class_that_the_training_images_lack_is_named(folder: Path, tmp_path: Path, name: str) -> None:
    root = tmp_path / "split"
    shutil.copytree(folder, root / "train")
    shutil.copytree(folder, root / name)
    (root / name / "dog").rename(root / name / "dogs")
    with pytest.raises(DataError, match=rf"{name} has the class dogs, which .*train does not have"):
        load(f"folder:{root}")


def test_a_val_and_a_test_without_a_train_are_no_classes(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "split"
    shutil.copytree(folder, root / "val")
    shutil.copytree(folder, root / "test")
    with pytest.raises(DataError, match="val and test but no train"):
        load(f"folder:{root}")


def test_an_empty_class_is_named(folder: Path) -> None:
    (folder / "eel").mkdir()
    with pytest.raises(DataError, match=r"eel holds no image"):
        load(f"folder:{folder}")


@pytest.mark.parametrize("name", ["cifar", "folder:", "folder:/nowhere"])
def test_what_there_is_not_is_an_error(name: str) -> None:
    with pytest.raises(DataError):
        load(name)


def test_an_image_size_for_a_data_set_that_has_its_own_is_refused() -> None:
    with pytest.raises(UsageError, match="fixed image size"):
        load("digits", image_size=(16, 16))


@pytest.mark.parametrize("option", [{"streaming": True}, {"preprocess": Preprocess()}])
def test_a_data_set_in_memory_neither_streams_nor_is_prepared(option: dict) -> None:
    with pytest.raises(UsageError, match="folder:PATH"):
        load("digits", **option)


def test_selecting_classes_keeps_their_images_and_numbers_them_in_the_order_given(digits: Dataset) -> None:
    chosen = digits.select(["7", "1"])
    assert chosen.signature == replace(digits.signature, labels=("7", "1"))
    for name in ("train", "validation", "test"):
        split, whole = getattr(chosen, name), getattr(digits, name)
        for target, digit in enumerate((7, 1)):
            expected = whole.images[whole.targets == digit]
            np.testing.assert_array_equal(split.images[split.targets == target], expected)
        assert len(split) == np.isin(whole.targets, (1, 7)).sum()


def test_selecting_all_classes_changes_nothing(digits: Dataset) -> None:
    assert digits.select(digits.signature.labels).digest() == digits.digest()


def test_classes_are_selected_from_a_stream_too(folder: Path) -> None:
    shutil.copytree(folder / "cat", folder / "eel")
    chosen = load(f"folder:{folder}", streaming=True).select(["eel", "cat"])
    assert isinstance(chosen.train, FileSplit)
    assert chosen.train.signature is chosen.signature
    for path, target in zip(chosen.train.paths, chosen.train.targets, strict=True):
        assert path.parent.name == ("eel", "cat")[target]


def test_an_unknown_class_is_answered_with_the_nearest(fake: Dataset) -> None:
    with pytest.raises(DataError, match=r"no class 'patern 2' \(nearest: pattern 2"):
        fake.select(["pattern 1", "patern 2"])
    with pytest.raises(DataError, match=r"no class 'zzz' \(there are pattern 0, pattern 1"):
        fake.select(["zzz"])


@pytest.mark.parametrize("labels", [[], ["pattern 1"], ["pattern 1", "pattern 1"]])
def test_fewer_than_two_classes_are_no_selection(fake: Dataset, labels: list[str]) -> None:
    with pytest.raises(DataError, match="expected two classes or more"):
        fake.select(labels)


def changed_pixel(dataset: Dataset) -> Dataset:
    images, targets = dataset.train.read(slice(None))
    images = images.copy()
    images[3, 2, 1, 0] ^= 1
    return replace(dataset, train=Split(images, targets))


def changed_target(dataset: Dataset) -> Dataset:
    images, targets = dataset.validation.read(slice(None))
    return replace(dataset, validation=Split(images, (targets + 1) % dataset.signature.num_classes))


def moved_image(dataset: Dataset) -> Dataset:
    """The same bytes in the same order; the last training image is the first of validation."""
    (images, targets), (others, other_targets) = (s.read(slice(None)) for s in (dataset.train, dataset.validation))
    return replace(
        dataset,
        train=Split(images[:-1], targets[:-1]),
        validation=Split(np.concatenate([images[-1:], others]), np.concatenate([targets[-1:], other_targets])),
    )


@pytest.mark.parametrize(
    "change",
    [
        changed_pixel,
        changed_target,
        moved_image,
        lambda dataset: replace(dataset, name="other"),
        lambda dataset: replace(dataset, signature=replace(dataset.signature, labels=tuple("abcd"))),
        lambda dataset: replace(dataset, signature=replace(dataset.signature, mean=(0.25,))),
    ],
)
def test_a_digest_says_that_a_data_set_trains_otherwise(fake: Dataset, change: Callable[[Dataset], Dataset]) -> None:
    assert change(fake).digest() != fake.digest()


def test_a_digest_is_that_of_the_data_wherever_and_however_it_lies(fake: Dataset, digits: Dataset) -> None:
    assert fake.digest() == load("fake").digest() != load("fake", seed=1).digest()
    images, targets = fake.train.read(slice(None))
    turned = Split(np.asfortranarray(images), targets.astype(np.int32))  # type: ignore[arg-type]
    assert replace(fake, train=turned).digest() == fake.digest()
    assert replace(fake, test=fake.validation, notes=("of no matter",)).digest() == fake.digest()
    assert len(digits.digest()) == 64


def test_the_digest_of_files_is_over_their_places_and_sizes(folder: Path, tmp_path: Path) -> None:
    dataset = load(f"folder:{folder}", streaming=True)
    shutil.copytree(folder, tmp_path / "copy")
    assert load(f"folder:{tmp_path / 'copy'}", streaming=True).digest() == dataset.digest()
    assert isinstance(dataset.train, FileSplit)
    first = dataset.train.paths[0]
    before = dataset.digest()
    first.write_bytes(first.read_bytes() + b" ")
    assert dataset.digest() != before
    first.unlink()
    with pytest.raises(DataError, match="was readable when the data set was loaded"):
        dataset.digest()


def test_balanced_weights_make_all_classes_weigh_the_same() -> None:
    targets = np.array([0] * 6 + [1] * 3 + [2])
    weights = class_weights(targets, 3)
    assert weights.dtype == np.float32
    assert (weights * np.bincount(targets)).tolist() == pytest.approx([10 / 3] * 3)
    assert class_weights(np.arange(20) % 4, 4).tolist() == [1] * 4


def test_balanced_weights_need_an_image_of_each_class() -> None:
    with pytest.raises(DataError, match="class 1, 3 has no training image"):
        class_weights(np.array([0, 2]), 4)


def test_the_digest_of_a_large_data_set_takes_no_time(fashion_mnist: Dataset) -> None:
    began = time.process_time()  # not the time that others take from it
    fashion_mnist.digest()
    assert time.process_time() - began < 2  # 0.02 s where it was written, ten times that without SHA instructions


def test_fashion_mnist_is_the_real_one(fashion_mnist: Dataset) -> None:
    assert len(fashion_mnist.train) + len(fashion_mnist.validation) == 60_000
    assert np.bincount(fashion_mnist.test.targets).tolist() == [1000] * 10
    assert fashion_mnist.signature.mean == pytest.approx((0.286,), abs=1e-3)  # known to three places
