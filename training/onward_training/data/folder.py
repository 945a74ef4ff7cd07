"""folder:PATH: one folder per class, with images of any size and any format that Pillow reads."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from onward.errors import DataError, ImageError
from onward.images.decode import (
    DECODING_ERRORS,
    IMAGE_SUFFIXES,
    check_levels,
    has_16_bits,
    open_image,
    orientation_of,
)
from onward.signature import Preprocess, Signature
from onward.sources.left_alone import LeftAlone, describe_left_alone
from onward_training.data.dataset import Dataset, measure_signature
from onward_training.data.split import FileSplit, Split, divide

__all__ = ["load_folder"]

LARGEST_SIDE_PX = 64
#: If the decoded training images take more, they stay on disk.
LARGEST_IN_MEMORY_BYTES = 2**30
NUM_MEASURED = 2_000
LARGEST_UNREADABLE_SHARE = 0.1
VALIDATION_SHARE, TEST_SHARE = 0.15, 0.15
SPLIT_FOLDERS = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
#: Created by macOS in archives.
IGNORED_FOLDERS = frozenset({"__MACOSX"})
GREY_MODES = frozenset({"1", "L", "LA", "I", "I;16", "I;16B", "I;16L", "I;16N"})
#: A change of the proportions, or a cut, that is not worth a word.
SMALLEST_CHANGE = 0.01
#: From this EXIF orientation on, an image lies on its side.
ON_ITS_SIDE = 5


def load_folder(
    path: Path,
    image_size: tuple[int, int] | None = None,
    seed: int = 0,
    *,
    channels: int | None = None,
    preprocess: Preprocess | None = None,
    streaming: bool | None = None,
    classes: tuple[str, ...] = (),
) -> Dataset:
    """A data set from `PATH/<label>/*.png`, or from `PATH/train/<label>/…`, `PATH/val/…`, `PATH/test/…`.

    If `val` or `test` is missing, 15 % of each class of the training images is used instead. Unreadable images are
    left out; the data set's notes count them and the converted images. If the images stay on disk, only their headers
    are read here; an image with a damaged body is found later, and added to the split's `failures`.

    Args:
        path: The folder. Hidden files and folders are ignored; links to folders inside a class are not followed.
        image_size: `(height, width)`; by default the most frequent size of the training images, at most 64×64.
        seed: Of the split.
        channels: 1 or 3; by default 1 if all training images are grey, else 3.
        preprocess: How images are resized, and whether they are turned by their EXIF orientation; by default, both
            sides are scaled, and images are read as they are stored, as by torchvision's `ImageFolder`.
        streaming: Leave the images on disk; by default if the training images take more than 1 GiB.
        classes: Of the model that is evaluated: the folder may lack some of them.

    Raises:
        DataError: No such folder, too few classes, a class without training images, a class of `val` or `test` that
            `train` does not have, too few images to divide, or more than one image in ten is unreadable.
    """
    listing = _list(path, classes)
    headers = _read_headers([file for files in listing.files.values() for file, _ in files])
    rule = preprocess or Preprocess()
    size, found_channels = _choose_form([headers[file] for file, _ in listing.files["train"]], image_size, rule)
    channels = channels or found_channels
    neutral = Signature(*size, channels, (0.0,) * channels, (1.0,) * channels, listing.labels, rule)
    failures = {file: header for file, header in headers.items() if isinstance(header, str)}
    splits = _divide(
        {
            name: _split([item for item in files if item[0] not in failures], neutral)
            for name, files in listing.files.items()
        },
        seed,
    )
    if streaming is None:
        streaming = len(splits["train"]) * math.prod(neutral.image_shape) > LARGEST_IN_MEMORY_BYTES
    loaded: dict[str, Split] = {} if streaming else {name: split.load() for name, split in splits.items()}
    sample = loaded["train"] if loaded else _sample(splits["train"])
    for split in splits.values():
        failures |= split.failures
    _check_readable(path, listing, splits, failures)
    signature = measure_signature(sample, listing.labels, neutral.preprocess)
    streamed = {name: replace(split, signature=signature) for name, split in splits.items()}
    return Dataset(
        "folder",
        **(loaded or streamed),
        signature=signature,
        is_public=False,
        notes=(*_describe_conversion(headers.values(), signature), *_describe_losses(path, listing, failures)),
        split_rule=_describe_split(listing.files, seed),
        proportions=_describe_proportions(headers.values(), signature),
    )


@dataclass(frozen=True)
class _Header:
    """The header of an image.

    Args:
        size: `(height, width)` in pixels, as stored.
        mode: Pillow's color mode.
        has_16_bits: Whether it has 16 bits per value, of which the higher 8 are kept.
        orientation: From EXIF, 1 to 8.
    """

    size: tuple[int, int]
    mode: str
    has_16_bits: bool = False
    orientation: int = 1

    def size_by(self, rule: Preprocess) -> tuple[int, int]:
        """`(height, width)` once it is turned, if it is."""
        return self.size[::-1] if rule.exif == "apply" and self.orientation >= ON_ITS_SIDE else self.size


@dataclass
class _Listing:
    """The files of each split with their class indices, and what was ignored."""

    labels: tuple[str, ...]
    files: dict[str, list[tuple[Path, int]]]
    strays: list[Path] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)
    left_alone: LeftAlone = field(default_factory=LeftAlone)


def _list(path: Path, classes: tuple[str, ...] = ()) -> _Listing:
    roots = {
        split: found
        for split, names in SPLIT_FOLDERS.items()
        if (found := next((path / name for name in names if (path / name).is_dir()), None))
    }
    if "train" not in roots:
        _check_no_splits(path, roots)
        roots = {"train": path}
    labels = tuple(sorted(folder.name for folder in _class_folders(roots["train"])))
    is_known = bool(labels) and set(labels) <= set(classes)
    if len(labels) < 2 and not is_known:
        raise DataError(f"{roots['train']} has {len(labels)} folders in it, expected at least two: one per class.")
    listing = _Listing(classes if is_known else labels, {})
    for split, root in roots.items():
        if unknown := sorted({folder.name for folder in _class_folders(root)} - set(listing.labels)):
            raise DataError(f"{root} has the class {', '.join(unknown)}, which {roots['train']} does not have.")
        listing.files[split] = list(_list_split(split, root, listing))
        listing.strays += [file for file in _children(root) if _is_image(file) and not file.is_dir()]
    return listing


def _check_no_splits(path: Path, roots: dict[str, Path]) -> None:
    folders = list(_class_folders(path))
    if roots and {folder.name for folder in folders} == {root.name for root in roots.values()}:
        names = " and ".join(root.name for root in roots.values())
        raise DataError(f"{path} has {names} but no train: expected a folder train, or one folder per class.")


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(item for item in folder.iterdir() if item.name[0] != ".")
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error.strerror}.") from error


def _class_folders(root: Path) -> Iterator[Path]:
    return (item for item in _children(root) if item.is_dir() and item.name not in IGNORED_FOLDERS)


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in IMAGE_SUFFIXES


def _list_split(split: str, root: Path, listing: _Listing) -> Iterator[tuple[Path, int]]:
    for target, label in enumerate(listing.labels):
        is_there = (root / label).is_dir()
        files = sorted(_walk(root / label, listing)) if is_there else []
        if not files and is_there and split == "train":
            others = (
                f" Left alone: {describe_left_alone(listing.left_alone.counts)}." if listing.left_alone.counts else ""
            )
            raise DataError(f"{root / label} holds no image, expected at least one for every class.{others}")
        yield from ((file, target) for file in files)


def _walk(folder: Path, listing: _Listing) -> Iterator[Path]:
    """The images in a class's folder; other files are counted.

    Links to folders may form a cycle: they are listed, not followed.
    """

    def refuse(error: OSError) -> None:
        raise DataError(f"{error.filename} cannot be listed: {error.strerror}.") from error

    for place, folders, files in os.walk(folder, onerror=refuse if folder.is_dir() else None):
        folders[:] = sorted(name for name in folders if name[0] != "." and name not in IGNORED_FOLDERS)
        listing.links += [Path(place, name) for name in folders if Path(place, name).is_symlink()]
        for name in files:
            if name[0] == ".":
                continue
            if _is_image(file := Path(place, name)):
                yield file
            else:
                listing.left_alone.add_file(name)


def _read_headers(files: list[Path]) -> dict[Path, _Header | str]:
    """Each image's header, or why it cannot be read."""
    Image.init()  # now: if threads fill its lists of formats, others read them half filled
    with ThreadPoolExecutor() as pool:
        return dict(zip(files, pool.map(_read_header, files), strict=True))


def _read_header(file: Path) -> _Header | str:
    try:
        with file.open("rb") as stream, open_image(stream) as image:
            check_levels(image)
            # only where the header has it: Pillow would decode a PNG to look for it behind the pixels
            orientation = orientation_of(image) if "exif" in image.info else 1
            return _Header((image.height, image.width), image.mode, has_16_bits(image), orientation)
    except ImageError as error:
        return str(error)
    except UnidentifiedImageError:
        return "not an image: Pillow recognises no format in its content"
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        return f"too large: {error}"
    except DECODING_ERRORS as error:
        return f"cannot be decoded: {error}"


def _choose_form(
    headers: Iterable[_Header | str], image_size: tuple[int, int] | None, rule: Preprocess
) -> tuple[tuple[int, int], int]:
    readable = [header for header in headers if isinstance(header, _Header)]
    if image_size is None and readable:
        height, width = Counter(header.size_by(rule) for header in readable).most_common(1)[0][0]
        image_size = min(height, LARGEST_SIDE_PX), min(width, LARGEST_SIDE_PX)
    is_grey = all(header.mode in GREY_MODES for header in readable)
    return image_size or (LARGEST_SIDE_PX, LARGEST_SIDE_PX), 1 if is_grey else 3


def _split(files: list[tuple[Path, int]], signature: Signature) -> FileSplit:
    return FileSplit([file for file, _ in files], np.array([target for _, target in files], np.int64), signature)


def _divide(splits: dict[str, FileSplit], seed: int) -> dict[str, FileSplit]:
    """Split test and validation images off the training images, if they are missing."""
    train = splits["train"]
    test, validation = splits.get("test"), splits.get("validation")
    if test is None:
        train, test = divide(train, TEST_SHARE, 0)
    if validation is None:
        train, validation = divide(train, VALIDATION_SHARE, seed)
    found = {"train": train, "validation": validation, "test": test}
    if missing := [name for name, split in found.items() if not len(split)]:
        raise DataError(
            f"the folder has too few images: none is left for {' and '.join(missing)}. A class with at least 3 gives "
            f"one to each of training, validation and test; or put them into folders train, val and test."
        )
    return found


def _sample(train: FileSplit) -> Split:
    """At most 2,000 training images, the same in every run."""
    chosen = np.random.default_rng(0).permutation(len(train))[:NUM_MEASURED]
    return Split(*train.read(np.sort(chosen)))


def _check_readable(path: Path, listing: _Listing, splits: dict[str, FileSplit], failures: dict[Path, str]) -> None:
    """Check that few images are unreadable, and not all of a class.

    Raises:
        DataError: More than one in ten is unreadable, or all images of a class.
    """
    num_images = sum(map(len, listing.files.values()))
    if len(failures) > LARGEST_UNREADABLE_SHARE * num_images:
        raise DataError(
            f"{len(failures):,} of {num_images:,} images in {path} cannot be read, e.g. {_example(path, failures)}. "
            f"At most one in ten may be unreadable: something is wrong with the folder."
        )
    for name, files in listing.files.items():
        split = splits[name]
        left = {
            target for file, target in zip(split.paths, split.targets.tolist(), strict=True) if file not in failures
        }
        if lost := sorted({target for _, target in files} - left):
            file = next(file for file, target in files if target == lost[0] and file in failures)
            raise DataError(
                f"no {name} image of the class {listing.labels[lost[0]]!r} can be read, e.g. {file}: "
                f"{failures[file].rstrip('.')}. Every class needs at least one."
            )


def _example(path: Path, failures: dict[Path, str]) -> str:
    file = min(failures)
    return f"{file.relative_to(path).as_posix()}: {failures[file].rstrip('.')}"


def _describe_conversion(headers: Iterable[_Header | str], signature: Signature) -> Iterator[str]:
    """How many images are resized or converted to another color mode."""
    readable = [header for header in headers if isinstance(header, _Header)]
    rule = signature.preprocess
    sizes = {header.size_by(rule) for header in readable}
    modes = Counter(header.mode for header in readable)
    parts = []
    if sizes != {(signature.height, signature.width)}:
        what = f"of {len(sizes)} sizes" if len(sizes) > 1 else "of {}×{}".format(*next(iter(sizes)))
        how = f" ({rule.describe()})" if rule.shorter_side_px else ""
        parts.append(f"images {what} become {signature.height}×{signature.width}{how}")
    color = "RGB" if signature.channels == 3 else "L"
    if set(modes) != {color}:
        counts = ", ".join(f"{count:,} {mode}" for mode, count in modes.most_common())
        parts.append(f"{counts} become {color}")
    if num_16_bit := sum(header.has_16_bits for header in readable):
        parts.append(f"of {num_16_bit:,} images with 16 bits the higher 8 bits of each value are kept")
    if parts:
        yield "; ".join(parts)
    if num_turned := sum(header.orientation > 1 for header in readable):
        done = "is applied" if rule.exif == "apply" else "is ignored, as by ImageFolder; --exif apply turns them"
        subject = "1 image has" if num_turned == 1 else f"{num_turned:,} images have"
        yield f"{subject} an EXIF orientation, which {done}"


def _describe_split(names: Iterable[str], seed: int) -> str:
    """How training, validation and test images were told apart; `names` are those that have a folder."""
    found = set(names) - {"train"}
    parts = [f"{' and '.join(sorted(found))} by folder"] if found else []
    if "test" not in found:
        parts.append(f"{100 * TEST_SHARE:.0f} % of each class for testing, the same in every run")
    if "validation" not in found:
        of = "of each class" if "test" in found else "of the rest"
        parts.append(f"{100 * VALIDATION_SHARE:.0f} % {of} for validation, drawn with seed {seed}")
    return "; ".join(parts)


def _describe_proportions(headers: Iterable[_Header | str], signature: Signature) -> str:
    """How much stretching changes the proportions, or cropping cuts off."""
    rule, target = signature.preprocess, signature.width / signature.height
    sizes = Counter(header.size_by(rule) for header in headers if isinstance(header, _Header))
    if not sizes:
        return ""
    if rule.shorter_side_px is not None:
        cut = max(1 - _kept(size, signature, rule.shorter_side_px) for size in sizes)
        return f"up to {100 * cut:.0f} % of an image is cut off" if cut > SMALLEST_CHANGE else ""
    factors = {size: max(size[1] / size[0] / target, target * size[0] / size[1]) for size in sizes}
    changed = {size: factor for size, factor in factors.items() if factor > 1 + SMALLEST_CHANGE}
    if not changed:
        return ""
    num_changed, shorter = sum(sizes[size] for size in changed), min(signature.height, signature.width)
    return (
        f"the proportions of {num_changed:,} of {sizes.total():,} images change, by up to "
        f"× {max(changed.values()):.2f}; --resize shorter-side:{shorter} keeps them"
    )


def _kept(size: tuple[int, int], signature: Signature, shorter_side_px: int) -> float:
    """The share of an image's area that is left once its shorter side has that length and the centre is cropped."""
    scale = shorter_side_px / min(size)
    height, width = size[0] * scale, size[1] * scale
    return min(signature.height / height, 1.0) * min(signature.width / width, 1.0)


def _describe_losses(path: Path, listing: _Listing, failures: dict[Path, str]) -> Iterator[str]:
    """How many images and other files are left out."""
    if failures:
        num_images = sum(map(len, listing.files.values()))
        were = "was" if len(failures) == 1 else "were"
        yield (
            f"{len(failures):,} of {num_images:,} images could not be read and {were} left out, e.g. "
            f"{_example(path, failures)}"
        )
    for files, what, where in (
        (listing.strays, "image", " outside the class folders"),
        (listing.links, "linked folder", ""),
    ):
        if files:
            many = "s" if len(files) > 1 else ""
            yield f"left out: {len(files):,} {what}{many}{where}, e.g. {files[0].relative_to(path).as_posix()}"
    if others := listing.left_alone.counts:
        yield f"left alone, because their names do not end as an image's: {describe_left_alone(others)}"
