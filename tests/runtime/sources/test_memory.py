"""Memory does not grow with the number of inputs."""

from __future__ import annotations

import gzip
import io
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FEW, MANY = 500, 5_000
#: Anything that is kept for each of 5,000 inputs takes more: a path alone takes about 70 bytes.
MAX_GROWTH_BYTES = 192 << 10


def peak_bytes(source: Any, count: int) -> int:
    tracemalloc.start()
    try:
        assert sum(len(block) for block in source.blocks()) == count
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def shard(path: Path, count: int) -> Path:
    with tarfile.open(path, "w") as archive:
        for index in range(count):
            for suffix, data in (("png", b"x" * 200), ("cls", b"7")):
                member = tarfile.TarInfo(f"train/{index:06}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
            archive.members.clear()
    return path


class Names(io.RawIOBase):
    """A pipe with paths."""

    def __init__(self, count: int) -> None:
        self.pieces: Iterator[bytes] = (b"/gone/%06d.png\n" % index for index in range(count))

    def read(self, size: int = -1) -> bytes:
        return next(self.pieces, b"")


def opened(make: Any, kind: str, folder: Path, count: int) -> Any:
    match kind:
        case "tar":
            return make.opened(shard(folder / f"{count}.tar", count))
        case "tar.gz":
            path = folder / f"{count}.tar.gz"
            path.write_bytes(gzip.compress(shard(folder / f"{count}.tar", count).read_bytes(), 1))
            return make.opened(path)
        case "npz":
            path = folder / f"{count}.npz"
            np.savez_compressed(path, images=np.zeros((count * 20, 4, 4), np.uint8), labels=np.arange(count * 20))
            return make.opened(path)
        case "csv":
            path = folder / f"{count}.csv"
            path.write_text("path,label\n" + "".join(f"gone/{index}.png,{index}\n" for index in range(count)))
            return make.opened(path)
        case "parquet":
            names = [f"gone/{index}.png" for index in range(count)]
            return make.opened(make.parquet(folder / f"{count}.parquet", {"path": names}))
        case _:
            return make.opened("-", stdin=Names(count))


@pytest.mark.parametrize("kind", ["tar.gz", "npz", "csv", "parquet", "stdin"])
def test_ten_times_the_inputs_take_no_more_memory(
    make: Any, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onward.sources.arrays.PIECE_BYTES", 64 << 10)  # else FEW would fit into one piece
    factor = 20 if kind == "npz" else 1
    peak_bytes(opened(make, kind, tmp_path, FEW), FEW * factor)  # imports are not part of the comparison
    few = peak_bytes(opened(make, kind, tmp_path, FEW), FEW * factor)
    many = peak_bytes(opened(make, kind, tmp_path, MANY), MANY * factor)
    assert many - few < MAX_GROWTH_BYTES
