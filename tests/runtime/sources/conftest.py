"""Shared by the tests of sources: small images, files of all kinds with them, and the rows of a source."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from onward.errors import ImageError
from onward.images.decode import read_image
from onward.signature import Signature
from onward.sources import Images, Source, open_sources

GREY = Signature(4, 4, 1, (0.5,), (0.5,), ("a", "b"))
Row = tuple[str, object, str | None]


def pixels(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(7).integers(0, 256, (count, 4, 4, 1), np.uint8)


def png(image: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image[..., 0]).save(stream, "PNG")
    return stream.getvalue()


def tar(members: Mapping[str, bytes] | Iterable[tuple[str, bytes]], *, how: str = "w", mtime: int = 5) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=how) as archive:
        for name, data in members.items() if isinstance(members, Mapping) else members:
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), mtime
            archive.addfile(member, io.BytesIO(data))
    return stream.getvalue()


def rows_of(source: Source) -> list[Row]:
    """Name, pixels as bytes or the reason of the failure, and label."""
    return [row for block in source.blocks() for row in block_rows(block)]


def block_rows(block: Any) -> Iterator[Row]:
    if not isinstance(block, Images):
        labels = block.labels or [None] * len(block)
        yield from zip(block.names, (image.tobytes() for image in block.images), labels, strict=True)
        return
    for item in block.items:
        try:
            yield item.name, read_image(item.read(), GREY).tobytes(), item.label
        except ImageError as error:
            yield item.name, str(error), item.label


def stamps_of(source: Source) -> bytes:
    return b"".join(block.stamps for block in source.blocks())


def build(kind: str, folder: Path, count: int, seed: int = 0) -> Path:
    """A file or folder of this kind with `pixels(count + seed)[seed:]`, in order."""
    images = pixels(count + seed)[seed:]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"images.{kind}"
    names = [f"{index:03}.png" for index in range(count)]
    match kind:
        case "folder":
            path.mkdir(exist_ok=True)
            for name, image in zip(names, images, strict=True):
                (path / name).write_bytes(png(image))
        case "npy":
            np.save(path, images)
        case "npz":
            np.savez_compressed(path, images=images, labels=np.arange(count) % 2)
        case "idx" | "idx.gz":
            data = bytes((0, 0, 8, 3)) + struct.pack(">3I", count, 4, 4) + images.tobytes()
            path.write_bytes(gzip.compress(data) if kind == "idx.gz" else data)
        case "tar" | "tar.gz" | "tar.bz2" | "tar.xz":
            how = f"w:{kind.partition('.')[2]}"
            path.write_bytes(tar({name: png(image) for name, image in zip(names, images, strict=True)}, how=how))
        case "parquet":
            parquet(path, {"image": [png(image) for image in images], "label": list(range(count))})
        case "csv" | "tsv" | "paths.parquet":
            build("folder", folder, count, seed)
            paths = [f"images.folder/{name}" for name in names]
            if kind == "paths.parquet":
                parquet(path, {"path": paths})
            else:
                end = "," if kind == "csv" else "\t"
                path.write_text("".join(f"{line}{end}x\n" for line in ["path", *paths]))
    return path


def parquet(path: Path, columns: Any, **how: Any) -> Path:
    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install 'onward[parquet]'")
    import pyarrow.parquet as pq

    try:
        pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), path, **how)
    except pa.ArrowNotImplementedError as error:
        pytest.skip(f"this pyarrow cannot write it: {error}")
    return path


def opened(*paths: str | os.PathLike[str], **how: Any) -> Source:
    return open_sources([os.fspath(path) for path in paths], GREY, **how)


@pytest.fixture(scope="session")
def make() -> Callable[..., Any]:
    """The functions above, by their names: test modules cannot import one another."""

    class Make:
        grey = GREY
        pixels, png, tar, parquet, build = map(staticmethod, (pixels, png, tar, parquet, build))
        rows_of, block_rows, stamps_of, opened = map(staticmethod, (rows_of, block_rows, stamps_of, opened))

    return Make
