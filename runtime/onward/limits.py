"""Limits: how much memory a file may take, compared with its size on the disk.

A small file must not fill the memory. Weights, random pixels and reference outputs hardly compress, so what a file
unpacks to is at most a few times its size. Readers compare what a file states with `allowed_bytes` before they take
the memory.
"""

from __future__ import annotations

__all__ = [
    "MAX_DIRECTORY_BYTES",
    "MAX_DOCUMENT_BYTES",
    "MAX_EXPANSION",
    "MAX_LABEL_CHARACTERS",
    "MAX_MEMBER_BYTES",
    "allowed_bytes",
    "mebibytes",
]

MEBIBYTE = 1 << 20
#: Any file may unpack to this size, however small it is.
FREE_BYTES = 64 << 20
#: Beyond it, a file may unpack to this many times its size.
MAX_EXPANSION = 8
#: An image file in an archive or a table: several are in memory at a time, and a kilobyte can unpack to a megabyte.
MAX_MEMBER_BYTES = 48 << 20
#: A longer text is no label.
MAX_LABEL_CHARACTERS = 4096
#: A JSON document takes up to 20 times its size in memory. Labels of 20,000 classes take 1 MB.
MAX_DOCUMENT_BYTES = 8 << 20
#: The directory of a zip archive. It takes 12 times its size in memory; 4 MiB hold 50,000 members.
MAX_DIRECTORY_BYTES = 4 << 20


def allowed_bytes(stored_bytes: int) -> int:
    """The most memory that the content of a file of this size may take."""
    return FREE_BYTES + MAX_EXPANSION * stored_bytes


def mebibytes(num_bytes: int) -> str:
    """A size for messages: `0.2 MiB` or `7,400 MiB`."""
    return f"{num_bytes / MEBIBYTE:,.{0 if num_bytes >= 10 * MEBIBYTE else 1}f} MiB"
