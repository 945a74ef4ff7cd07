"""Archive: the zip of a .pt2 or TorchScript file, read strictly and written again.

Programs differ in how they read a zip that contradicts itself: two files of one name, a name in other case, two
directories. So what was checked is written to a new zip, and PyTorch opens that one: it cannot find a file that was not
checked.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from typing import NoReturn

from onward.errors import BackendError, BundleError
from onward.zip_files import BROKEN_ZIP, open_zip

__all__ = ["check_repeated", "read_archive", "refuse", "write_archive"]

ALIGNMENT = 64
HEADER_BYTES = 30
EXTRA_ID = 0x4246  # "FB": the padding that PyTorch itself writes
EPOCH = (1980, 1, 1, 0, 0, 0)
ENCRYPTED = 0x1
#: Tensors may repeat their numbers (`expand`), but not take gigabytes out of a small file.
MAX_REPEATED_BYTES = 1 << 28


def read_archive(data: bytes, what: str, required: Sequence[str]) -> dict[str, memoryview]:
    """Read an archive: name without the top folder -> content, which is not copied.

    Args:
        data: The file.
        what: What it is, for messages: `.pt2`.
        required: Names of members that it must have.

    Raises:
        BackendError: It is damaged, no zip, or lacks a member.
        BundleError: It is no zip of the kind that `torch.export.save` and `torch.jit.save` write.
    """
    try:
        with open_zip(io.BytesIO(data)) as archive:
            entries = archive.infolist()
    except (OSError, *BROKEN_ZIP) as error:
        raise BackendError(f"PyTorch cannot open the {what} file: it is damaged or no archive ({error}).") from error
    names = {entry.filename.partition("/")[2] for entry in entries}
    for name in required:
        if name not in names:
            raise BackendError(f"PyTorch cannot open the {what} file: it has no {name}.")
    members: dict[str, memoryview] = {}
    folded: set[str] = set()
    for entry in entries:
        top, _, name = entry.filename.partition("/")
        if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & ENCRYPTED:
            refuse(what, f"{entry.filename!r} is compressed or encrypted")
        if not top or not name or top != entries[0].filename.partition("/")[0]:
            refuse(what, f"{entry.filename!r} is not in the archive's one folder")
        if name.lower() in folded:
            refuse(what, f"it has {name!r} twice")
        folded.add(name.lower())
        members[name] = _content(data, entry, what)
    return members


def write_archive(members: Mapping[str, bytes | memoryview]) -> bytes:
    """Write an archive as PyTorch reads it: uncompressed, in one folder, contents aligned to 64 bytes.

    The same members give the same bytes.
    """
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(f"model/{name}", EPOCH)
            position = written.tell() + HEADER_BYTES + len(info.filename)
            padding = -(position + 4) % ALIGNMENT
            info.extra = struct.pack("<HH", EXTRA_ID, padding) + bytes(padding)
            archive.writestr(info, content)
    return written.getvalue()


def check_repeated(num_bytes: int, what: str) -> None:
    """Check how much more memory the tensors of a file take than it has bytes for them.

    Raises:
        BundleError: Far more.
    """
    if num_bytes > MAX_REPEATED_BYTES:
        refuse(what, f"its tensors would take {num_bytes / 2**30:.1f} GiB more than the file has")


def refuse(what: str, reason: str) -> NoReturn:
    """Refuse a file that says more than a network needs.

    Raises:
        BundleError: Always.
    """
    raise BundleError(
        f"the {what} file was not opened: {reason}. Onward opens only operators and tensors that networks are known "
        "to need: anything else may run code. The ONNX artifact runs without it."
    )


def _content(data: bytes, entry: zipfile.ZipInfo, what: str) -> memoryview:
    header = data[entry.header_offset : entry.header_offset + HEADER_BYTES]
    if len(header) < HEADER_BYTES or not header.startswith(b"PK\3\4"):
        refuse(what, f"{entry.filename!r} has no header")
    start = entry.header_offset + HEADER_BYTES + sum(struct.unpack("<HH", header[26:30]))
    content = memoryview(data)[start : start + entry.file_size]
    if len(content) != entry.file_size or entry.file_size != entry.compress_size:
        refuse(what, f"{entry.filename!r} ends beyond the file")
    return content
