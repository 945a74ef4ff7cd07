"""Archive: PyTorch's zip files, written again so that the same model gives the same bytes and names no machine."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

__all__ = ["rewrite"]

ALIGNMENT = 64
HEADER_BYTES = 30
EXTRA_ID = 0x4246  # "FB": what PyTorch itself pads with
EPOCH = (1980, 1, 1, 0, 0, 0)
#: Debug records hold the source lines and paths of whoever exported; the serialization id is a hash of no use.
DROPPED = (".debug_pkl", ".data/serialization_id")


def rewrite(path: Path, edit: Callable[[str, bytes], bytes] = lambda name, data: data) -> None:
    """Write a zip of PyTorch's again: uncompressed, tensors aligned to 64 bytes, without debug records.

    Args:
        path: Of the file, replaced in place.
        edit: (member's name without the top folder, its bytes) -> the bytes to write.
    """
    with zipfile.ZipFile(path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist() if not name.endswith(DROPPED)]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in members:
            inner = name.partition("/")[2]
            info = zipfile.ZipInfo(f"model/{inner}", EPOCH)
            position = archive.start_dir + HEADER_BYTES + len(info.filename)
            padding = -(position + 4) % ALIGNMENT
            info.extra = struct.pack("<HH", EXTRA_ID, padding) + bytes(padding)
            archive.writestr(info, edit(inner, data))
