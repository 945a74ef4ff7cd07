"""Shards: tar files of images, named as WebDataset does, in one pass. Nothing is extracted to the disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from tarfile import TarFile, TarInfo

from onward.errors import DataError
from onward.images.decode import IMAGE_SUFFIXES
from onward.limits import MAX_MEMBER_BYTES
from onward.sources.files import is_ignored, items_within
from onward.sources.source import BLOCK_BYTES, BLOCK_IMAGES, Item, Source, in_blocks, unreadable
from onward.sources.tar import open_stream, read_data, read_members

__all__ = ["shard"]

#: Suffixes of the member that holds a sample's label. The first of them that a sample has is taken.
LABEL_SUFFIXES = (".cls", ".label", ".txt")
#: A longer text is no label.
MAX_LABEL_BYTES = 4096


def shard(path: str) -> Source:
    """The images of a tar file, plain or compressed by gzip, bzip2 or xz.

    Consecutive members with the same path up to the first dot of the name are one sample: `cat/7.jpg` and `cat/7.cls`.
    All its images are items, and its `.cls`, `.label` or `.txt` member is the label of all of them. Memory holds one
    sample at a time. A sample that is longer than a block is split; the images of its first blocks have the label only
    if the label comes before them.

    Raises:
        DataError: It is not a tar file, is damaged at its beginning, or is empty.
    """
    with open_stream(path) as stream:
        if next(read_members(stream, path), None) is None:
            raise DataError(f"{path} contains no image: it is an empty tar file.")
    return Source(lambda: in_blocks(items_within(path, _items(path))))


@dataclass(slots=True)
class _Sample:
    """What has been read of one sample: its images, without their label, and candidates for the label by suffix."""

    key: str = ""
    images: list[Item] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    size_bytes: int = 0

    @property
    def is_full(self) -> bool:
        return len(self.images) >= BLOCK_IMAGES or self.size_bytes >= BLOCK_BYTES

    def take(self) -> list[Item]:
        """Remove and return the images, with their label."""
        images, self.images, self.size_bytes = self.images, [], 0
        label = next((self.labels[suffix] for suffix in LABEL_SUFFIXES if suffix in self.labels), None)
        return images if label is None else [replace(item, label=label) for item in images]


def _items(path: str) -> Iterator[Item]:
    sample, is_empty = _Sample(), True
    try:
        with open_stream(path) as stream:
            for archive, member in read_members(stream, path):
                folder, _, base = member.name.rpartition("/")
                if is_ignored(base) or _is_in_ignored_folder(folder):
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
        raise DataError(f"{path} contains no image: none of its members has an image suffix.")


def _is_in_ignored_folder(folder: str) -> bool:
    if "." not in folder and "_" not in folder:  # nearly always
        return False
    return any(is_ignored(part) for part in folder.split("/") if part not in (".", ".."))


def _read_into(sample: _Sample, archive: TarFile, member: TarInfo, path: str) -> None:
    """Read a member that is an image or a label; an image that cannot be read becomes an unreadable item."""
    suffix = os.path.splitext(member.name)[1].lower()
    if suffix in IMAGE_SUFFIXES and not member.isdir():
        name, stamp = f"{path}/{member.name}", f"{member.offset_data} {member.size} {member.mtime}"
        if reason := _reason_to_refuse(member):
            sample.images.append(unreadable(name, reason, stamp))
            return
        data = read_data(archive, member, path)
        sample.images.append(Item.of_bytes(name, data, stamp=stamp))
        sample.size_bytes += len(data)
    elif suffix in LABEL_SUFFIXES and member.isreg() and member.size <= MAX_LABEL_BYTES:
        label = read_data(archive, member, path).decode("utf-8", "surrogateescape").strip()
        if label:
            sample.labels.setdefault(suffix, label)


def _reason_to_refuse(member: TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"is a link to {member.linkname}: links in a tar file are not followed"
    if not member.isreg() or member.issparse():
        return "is not a regular file"
    if member.size > MAX_MEMBER_BYTES:
        return f"too large: {member.size:,} bytes, at most {MAX_MEMBER_BYTES:,}"
    return ""
