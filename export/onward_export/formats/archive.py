"""Archive: PyTorch's zip files, written again, so that the same model gives the same bytes and no machine is named."""

from __future__ import annotations

import io
import struct
import zipfile

__all__ = ["clean_archive"]

ALIGNMENT = 64
HEADER_BYTES = 30
EXTRA_ID = 0x4246  # "FB": the padding that PyTorch itself writes
EPOCH = (1980, 1, 1, 0, 0, 0)
#: Debug records hold source lines and paths of the exporting machine; the serialization id is a hash that nothing
#: reads.
DROPPED = (".debug_pkl", ".data/serialization_id")


def clean_archive(data: bytes) -> bytes:
    """Write a zip of PyTorch's again: uncompressed, tensors aligned to 64 bytes, without debug records.

    Args:
        data: The file that PyTorch wrote.

    Returns:
        The file to ship; its top folder is called `model`.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist() if not name.endswith(DROPPED)]
    clean = io.BytesIO()
    with zipfile.ZipFile(clean, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(f"model/{name.partition('/')[2]}", EPOCH)
            position = clean.tell() + HEADER_BYTES + len(info.filename)
            padding = -(position + 4) % ALIGNMENT
            info.extra = struct.pack("<HH", EXTRA_ID, padding) + bytes(padding)
            archive.writestr(info, content)
    return clean.getvalue()
