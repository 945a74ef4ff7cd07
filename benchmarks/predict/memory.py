"""Memory: peak memory of `predict` by the number of images. Whole processes are measured.

Images are 28×28: a list on standard input that repeats a few PNG files, and a gzipped IDX file. There is no warm-up.
"""

from __future__ import annotations

import gzip
import statistics
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.predict.network import small_bundle
from benchmarks.predict.options import ComparisonOptions
from benchmarks.predict.process import Usage, measure
from benchmarks.predict.rounds import measure_in_rounds
from onward.bundle import Bundle
from onward.cli.console import print_table

__all__ = ["compare"]

ROOT = Path(__file__).parents[2]
NUM_ROUNDS = 3
NUM_IMAGES = 1_000_000
RATIO = 100
NUM_FILES = 100
IMAGES_PER_MEMBER = 10_000
SINKS = (".csv", ".parquet", ".npy")
LIST_PATHS = (
    "import itertools, sys; "
    "sys.stdout.writelines(path + '\\n' for path in itertools.islice(itertools.cycle(sys.argv[2:]), int(sys.argv[1])))"
)


@dataclass(frozen=True)
class Workspace:
    """The files of a run.

    Args:
        folder: A temporary folder.
        bundle: The model.
        images: The PNG files.
    """

    folder: Path
    bundle: Bundle
    images: tuple[Path, ...]


def compare(options: ComparisonOptions) -> None:
    """Measure, and print the table."""
    most = options.num_images or NUM_IMAGES
    counts = (max(1, most // RATIO), most)
    with tempfile.TemporaryDirectory() as name:
        workspace = _prepared(Path(name))
        sources: dict[str, Callable[[int, str], Callable[[], Usage]]] = {
            "PNG files, listed on standard input": lambda count, sink: lambda: from_list(workspace, count, sink),
            "IDX.gz": lambda count, sink: lambda: from_idx(workspace, count, sink),
        }
        for count in counts:
            write_idx(_idx(workspace, count), count)
        ways = {
            (source, sink, count): way(count, sink)
            for source, way in sources.items()
            for sink in SINKS
            for count in counts
        }
        named = {f"{source} → {sink}, {count}": way for (source, sink, count), way in ways.items()}
        usages = measure_in_rounds(named, options.num_rounds or NUM_ROUNDS, warm_up=False)
    table = []
    for source in sources:
        for sink in SINKS:
            few, many = (
                statistics.median(item.peak_mib for item in usages[f"{source} → {sink}, {count}"]) for count in counts
            )
            table.append([source, sink, f"{few:.0f}", f"{many:.0f}", f"{many / few:.2f}"])
    print_table(["images from", "to", *(f">peak MiB, {count:,}" for count in counts), ">ratio"], table)


def from_list(workspace: Workspace, num_images: int, sink: str) -> Usage:
    """From paths that another process lists."""
    command = [sys.executable, "-c", LIST_PATHS, str(num_images), *map(str, workspace.images)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as listing:
        return _predict(workspace, "-", sink, listing)


def from_idx(workspace: Workspace, num_images: int, sink: str) -> Usage:
    return _predict(workspace, _idx(workspace, num_images), sink)


def write_idx(path: Path, num_images: int) -> None:
    """Write an IDX file that repeats the same smooth images, one gzip member at a time."""
    coarse = np.random.default_rng(0).integers(0, 256, (min(IMAGES_PER_MEMBER, num_images), 7, 7), np.uint8)
    pixels = coarse.repeat(4, 1).repeat(4, 2)
    member = gzip.compress(pixels.tobytes(), 1)
    whole, rest = divmod(num_images, len(pixels))
    with path.open("wb") as stream:
        stream.write(gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, num_images, 28, 28)))
        for _ in range(whole):
            stream.write(member)
        if rest:
            stream.write(gzip.compress(pixels[:rest].tobytes(), 1))


def _prepared(folder: Path) -> Workspace:
    paths = tuple(folder / f"{index:02}.png" for index in range(NUM_FILES))
    for path, pixels in zip(
        paths, np.random.default_rng(0).integers(0, 256, (NUM_FILES, 28, 28), np.uint8), strict=True
    ):
        Image.fromarray(pixels).save(path)
    return Workspace(folder, small_bundle(folder), paths)


def _idx(workspace: Workspace, num_images: int) -> Path:
    return workspace.folder / f"{num_images}-idx3-ubyte.gz"


def _predict(workspace: Workspace, source: object, sink: str, listing: subprocess.Popen[bytes] | None = None) -> Usage:
    return measure(
        *(sys.executable, "-m", "onward", "predict", workspace.bundle.path, source),
        *("--out", workspace.folder / f"rows{sink}", "--quiet"),
        cwd=ROOT,
        stdin=listing.stdout if listing else None,
    )
