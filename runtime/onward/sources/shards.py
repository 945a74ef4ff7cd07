"""Shards: tar files of images, as WebDataset names them, in one pass; nothing is unpacked to the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from tarfile import TarFile, TarInfo

from onward.errors import DataError
from onward.images.decode import IMAGE_SUFFIXES
from onward.sources.files import MAX_FILE_BYTES, inputs_within, is_left_alone
from onward.sources.source import BLOCK_BYTES, BLOCK_IMAGES, Item, Source, Unreadable, blocks_of
from onward.sources.tar import open_stream, read_data, read_members

__all__ = ["shard"]

#: Of the member that holds a sample's class; the first of them that a sample has is taken.
LABEL_SUFFIXES = (".cls", ".label", ".txt")
#: A longer text is no class.
MAX_LABEL_BYTES = 4096


def shard(path: str) -> Source:
    """The images of a tar file, plain or compressed by gzip, bzip2 or xz.

    Consecutive members that share their path up to the first dot of the name are one sample: `cat/7.jpg` and
    `cat/7.cls`. All its images are inputs, and a `.cls`, `.label` or `.txt` member is the label of them all. One
    sample at a time is held in memory; of one that is longer than a block, the images of the first blocks have the
    label only where it comes before them.

    Raises:
        DataError: It is no tar file, damaged from the start, or empty.
    """
    with open_stream(path) as stream:
        if next(read_members(stream, path), None) is None:
            raise DataError(f"{path} holds no image: it is an empty tar file.")
    return Source(lambda: blocks_of(inputs_within(path, _images(path))))


@dataclass(slots=True)
class _Sample:
    """What has been read of one sample: its images, without their label, and what its label may be."""

    key: str = ""
    images: list[Item] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    size_bytes: int = 0

    @property
    def is_full(self) -> bool:
        return len(self.images) >= BLOCK_IMAGES or self.size_bytes >= BLOCK_BYTES

    def take(self) -> list[Item]:
        """The images, with the label; from then on they are not held here."""
        images, self.images, self.size_bytes = self.images, [], 0
        label = next((self.labels[suffix] for suffix in LABEL_SUFFIXES if suffix in self.labels), None)
        if label is None:
            return images
        return [Item(item.name, item.read, item.stamp, label, item.size_bytes) for item in images]


def _images(path: str) -> Iterator[Item]:
    sample, is_empty = _Sample(), True
    try:
        with open_stream(path) as stream:
            for archive, member in read_members(stream, path):
                folder, _, base = member.name.rpartition("/")
                if is_left_alone(base) or _lies_hidden(folder):
                    continue
                key = f"{folder}/{base.partition('.')[0]}"
                if key != sample.key:
                    yield from sample.take()
                    sample = _Sample(key)
                elif sample.is_full:
                    yield from sample.take()
                _read_into(sample, archive, member, path)
                is_empty = is_empty and not sample.images
    except DataError:
        yield from sample.take()
        raise
    yield from sample.take()
    if is_empty:
        raise DataError(f"{path} holds no image: none of its members ends as images do.")


def _lies_hidden(folder: str) -> bool:
    if "." not in folder and "_" not in folder:  # nearly always
        return False
    return any(is_left_alone(part) for part in folder.split("/") if part not in (".", ".."))


def _read_into(sample: _Sample, archive: TarFile, member: TarInfo, path: str) -> None:
    """Read a member where it is of use; an image that cannot be read is an input that says why."""
    suffix = os.path.splitext(member.name)[1].lower()
    if suffix in IMAGE_SUFFIXES and not member.isdir():
        name, stamp = f"{path}/{member.name}", f"{member.offset_data} {member.size} {member.mtime}"
        if reason := _why_not(member):
            sample.images.append(Unreadable(name, reason, stamp))
            return
        data = read_data(archive, member, path)
        sample.images.append(Item(name, partial(bytes, data), stamp, None, len(data)))
        sample.size_bytes += len(data)
    elif suffix in LABEL_SUFFIXES and member.isreg() and member.size <= MAX_LABEL_BYTES:
        label = read_data(archive, member, path).decode("utf-8", "surrogateescape").strip()
        if label:
            sample.labels.setdefault(suffix, label)


def _why_not(member: TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"is a link to {member.linkname}: links in a tar file are not followed"
    if not member.isreg() or member.issparse():
        return "is no plain file"
    if member.size > MAX_FILE_BYTES:
        return f"too large: {member.size:,} bytes, at most {MAX_FILE_BYTES:,}"
    return ""
