"""Archive: PyTorch's zip files, written again, so that the same model gives the same bytes and no machine is named."""

from __future__ import annotations

import io
import zipfile

from onward.bundle.torch_archive import write_archive

__all__ = ["clean_archive"]

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
    return write_archive({name.partition("/")[2]: content for name, content in members})
