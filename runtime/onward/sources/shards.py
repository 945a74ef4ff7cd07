"""Shards: tar files of images, named as WebDataset does, in one pass. Nothing is extracted to the disk."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from tarfile import TarFile, TarInfo

from onward.errors import DataError
from onward.images.decode import IMAGE_SUFFIXES
from onward.limits import MAX_MEMBER_BYTES
from onward.sources.files import is_ignored, items_within
from onward.sources.left_alone import LeftAlone
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
    The rest of the name is the member's extension. Its images are items, and its `.cls`, `.label` or `.txt` member is
    the label of all of them. An image with a longer extension, such as the mask `7.seg.png`, is an item only if
    neither its sample nor one before it has a plain one, such as `7.jpg`. Other members are counted. Memory holds one
    sample at a time. A sample that is longer than a block is split; the images of its first blocks have the label only
    if the label comes before them.

    Raises:
        DataError: It is not a tar file, is damaged at its beginning, or is empty.
    """
    with open_stream(path) as stream:
        if next(read_members(stream, path), None) is None:
            raise DataError(f"{path} contains no image: it is an empty tar file.")
    left_alone = LeftAlone()
    return Source(lambda: in_blocks(items_within(path, _items(path, left_alone))), left_alone=lambda: left_alone.counts)


@dataclass(slots=True)
class _Sample:
    """What has been read of one sample: its images, without their label, and candidates for the label by suffix.

    Args:
        key: Its path up to the first dot of the name.
        images: Those with a plain extension, `.jpg`.
        sidecars: Extension and image of those with a longer one, `.seg.png`.
        labels: Texts by extension.
        size_bytes: Of all images.
    """

    key: str = ""
    images: list[Item] = field(default_factory=list)
    sidecars: list[tuple[str, Item]] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    size_bytes: int = 0

    @property
    def is_full(self) -> bool:
        return len(self.images) + len(self.sidecars) >= BLOCK_IMAGES or self.size_bytes >= BLOCK_BYTES

    def take(self, has_plain: bool, left_alone: LeftAlone) -> list[Item]:
        """Remove and return the images, with their label.

        Args:
            has_plain: Whether a sample so far has an image with a plain extension: all others are sidecars then.
            left_alone: Counts the sidecars.
        """
        images, sidecars = self.images, self.sidecars
        self.images, self.sidecars, self.size_bytes = [], [], 0
        if has_plain:
            for extension, _ in sidecars:
                left_alone.add(extension)
        else:
            images = [item for _, item in sidecars]
        label = next((self.labels[suffix] for suffix in LABEL_SUFFIXES if suffix in self.labels), None)
        return images if label is None else [replace(item, label=label) for item in images]


def _items(path: str, left_alone: LeftAlone) -> Iterator[Item]:
    left_alone.counts.clear()
    sample, is_empty, has_plain = _Sample(), True, False
    try:
        with open_stream(path) as stream:
            for archive, member in read_members(stream, path):
                folder, _, base = member.name.rpartition("/")
                if is_ignored(base) or _is_in_ignored_folder(folder):
                    continue
                key = f"{folder}/{base.partition('.')[0]}"
                if key != sample.key:
                    yield from sample.take(has_plain, left_alone)
                    sample = _Sample(key)
                elif sample.is_full:
                    yield from sample.take(has_plain, left_alone)
                if not _read_into(sample, archive, member, path, has_plain) and not member.isdir():
                    left_alone.add(_extension(member))
                has_plain = has_plain or bool(sample.images)
                is_empty = is_empty and not sample.images and not sample.sidecars
    except DataError:
        yield from sample.take(has_plain, left_alone)
        raise
    yield from sample.take(has_plain, left_alone)
    if is_empty:
        raise DataError(f"{path} contains no image: none of its members has an image suffix.")


def _is_in_ignored_folder(folder: str) -> bool:
    if "." not in folder and "_" not in folder:  # nearly always
        return False
    return any(is_ignored(part) for part in folder.split("/") if part not in (".", ".."))


def _extension(member: TarInfo) -> str:
    """The name behind its first dot, with the dot: `.jpg`, `.seg.png`; empty where there is none."""
    _, dot, rest = member.name.rpartition("/")[2].partition(".")
    return f"{dot}{rest.lower()}"


def _read_into(sample: _Sample, archive: TarFile, member: TarInfo, path: str, has_plain: bool) -> bool:
    """Read a member that is an image or a label; an image that cannot be read becomes an unreadable item.

    Returns:
        Whether it is one of them.
    """
    extension = _extension(member)
    last = f".{extension.rpartition('.')[2]}"
    if last in IMAGE_SUFFIXES and not member.isdir():
        if extension == last:
            sample.images.append(item := _image(archive, member, path))
        elif has_plain:
            return False
        else:
            sample.sidecars.append((extension, item := _image(archive, member, path)))
        sample.size_bytes += item.size_bytes
        return True
    if extension in LABEL_SUFFIXES and member.isreg() and member.size <= MAX_LABEL_BYTES:
        label = read_data(archive, member, path).decode("utf-8", "surrogateescape").strip()
        if label:
            sample.labels.setdefault(extension, label)
        return True
    return False


def _image(archive: TarFile, member: TarInfo, path: str) -> Item:
    name, stamp = f"{path}/{member.name}", f"{member.offset_data} {member.size} {member.mtime}"
    if reason := _reason_to_refuse(member):
        return unreadable(name, reason, stamp)
    return Item.of_bytes(name, read_data(archive, member, path), stamp=stamp)


def _reason_to_refuse(member: TarInfo) -> str:
    if member.issym() or member.islnk():
        return f"is a link to {member.linkname}: links in a tar file are not followed"
    if not member.isreg() or member.issparse():
        return "is not a regular file"
    if member.size > MAX_MEMBER_BYTES:
        return f"too large: {member.size:,} bytes, at most {MAX_MEMBER_BYTES:,}"
    return ""
