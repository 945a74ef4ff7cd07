"""Arrays: 60,000 Fashion-MNIST images by the network 784-256-128-64-10, IDX.gz to CSV and .npy to Parquet.

Opening the models is not measured. The ways:

- Onward: `predict` on the bundle.
- Bare loop: read, normalise, infer and write one after the other, with numpy, onnxruntime and csv or pyarrow, on an
  ONNX file of the same weights that takes floats; once more with isal's decompression instead of zlib's.
- The course's way: a DataLoader with batches of 64, PIL, ToTensor and Normalize for each image, PyTorch eager.
"""

from __future__ import annotations

import gzip
import statistics
import struct
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.predict.network import BenchmarkNetwork, normalise, of_checkpoint, session_of
from benchmarks.predict.options import ComparisonOptions
from benchmarks.predict.rounds import measure_in_rounds, ratio_of, throughput_of
from benchmarks.predict.rows import agreement, write_csv, write_parquet
from onward.backends import Threads
from onward.cli.console import print_table, remark
from onward.prediction import open_engine, predict
from onward.sources import open_sources
from onward_training.data import load as load_data
from onward_training.data.idx_files import FILES, find_folder
from onward_training.loop import train
from onward_training.options import TrainOptions

__all__ = ["compare"]

NUM_ROUNDS = 9
NUM_IMAGES = 60_000
BATCH_SIZE = 1024
COURSE_BATCH_SIZE = 64
ONWARD, TO_CSV, TO_PARQUET = "Onward predict", "IDX.gz → CSV", ".npy → Parquet"

Route = dict[str, Callable[[Path], object]]


class ImageArray(Dataset[Tensor]):
    """Images one by one, as torchvision's data sets yield them."""

    def __init__(self, images: NDArray[np.uint8], transform: Callable[[Image.Image], Tensor]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(Image.fromarray(self.images[index]))


def compare(options: ComparisonOptions) -> None:
    """Measure, and print the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        idx = _images(folder, options.num_images or NUM_IMAGES)
        pixels = read_idx(idx, gzip.open)
        npy = folder / "images.npy"
        np.save(npy, pixels)
        network = of_checkpoint(train(load_data("fashion-mnist"), TrainOptions(model="classifier", epochs=1)), folder)
        routes = {TO_CSV: _to_csv(network, idx), TO_PARQUET: _to_parquet(network, npy)}
        outs = {(route, way): _out(folder, route, way) for route, ways in routes.items() for way in ways}
        measures = {
            f"{route}: {way}": throughput_of(_bind(routes[route][way], out), len(pixels))
            for (route, way), out in outs.items()
        }
        speeds = measure_in_rounds(measures, options.num_rounds or NUM_ROUNDS)
        table = []
        for (route, way), out in outs.items():
            ours, theirs = speeds[f"{route}: {ONWARD}"], speeds[f"{route}: {way}"]
            same = agreement(outs[route, ONWARD], out)
            speed = statistics.median(theirs)
            milliseconds = f"{len(pixels) / speed * 1e3:,.0f}"
            table.append([route, way, milliseconds, f"{speed:,.0f}", f"{ratio_of(ours, theirs):.2f}", f"{same:.2%}"])
    print_table(["", "way", ">median ms", ">images/s", ">Onward is × as fast", ">same labels"], table)


def _to_csv(network: BenchmarkNetwork, idx: Path) -> Route:
    ways: Route = {ONWARD: onward_way(network, idx), "bare onnxruntime loop": bare_csv(network, idx, gzip.open)}
    try:
        from isal import igzip

        ways["bare loop with isal"] = bare_csv(network, idx, igzip.open)
    except ImportError:
        remark("isal is not installed: skipping the bare loop with it.")
    return ways | {"the course's way": course_way(network, idx)}


def _to_parquet(network: BenchmarkNetwork, npy: Path) -> Route:
    return {ONWARD: onward_way(network, npy), "bare onnxruntime loop": bare_parquet(network, npy)}


def onward_way(network: BenchmarkNetwork, path: Path) -> Callable[[Path], object]:
    engine = open_engine(network.bundle)
    return lambda out: predict(engine, open_sources([path], engine.signature), out)


def bare_csv(network: BenchmarkNetwork, path: Path, open_gzip: Callable[[Path], Any]) -> Callable[[Path], object]:
    infer = _inference(network)

    def run(out: Path) -> None:
        images = read_idx(path, open_gzip)
        write_csv(out, _names(path, len(images)), infer(images), network.signature.labels)

    return run


def bare_parquet(network: BenchmarkNetwork, path: Path) -> Callable[[Path], object]:
    infer = _inference(network)

    def run(out: Path) -> None:
        images = np.load(path)
        write_parquet(out, _names(path, len(images)), infer(images), network.signature.labels)

    return run


def course_way(network: BenchmarkNetwork, path: Path) -> Callable[[Path], object]:
    signature = network.signature
    transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize(signature.mean, signature.std)])

    def probabilities(images: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
        with torch.no_grad():
            for batch in DataLoader(ImageArray(images, transform), batch_size=COURSE_BATCH_SIZE):
                yield network.module(batch).numpy()

    def run(out: Path) -> None:
        images = read_idx(path, gzip.open)
        write_csv(out, range(len(images)), probabilities(images), signature.labels)

    return run


def read_idx(path: Path, open_gzip: Callable[[Path], Any]) -> NDArray[np.uint8]:
    with open_gzip(path) as stream:
        return np.frombuffer(stream.read(), np.uint8, offset=16).reshape(-1, 28, 28)


def _inference(network: BenchmarkNetwork) -> Callable[[NDArray[np.uint8]], Iterator[NDArray[np.float32]]]:
    session = session_of(network, Threads().count)
    name = session.get_inputs()[0].name

    def infer(images: NDArray[np.uint8]) -> Iterator[NDArray[np.float32]]:
        for start in range(0, len(images), BATCH_SIZE):
            batch = normalise(images[start : start + BATCH_SIZE, ..., None], network.signature)
            yield session.run(None, {name: batch})[0]

    return infer


def _names(path: Path, count: int) -> list[str]:
    return [f"{path}[{index}]" for index in range(count)]


def _images(folder: Path, num_images: int) -> Path:
    """The file of the training images, or a file of the first `num_images` of them."""
    data = find_folder("fashion-mnist")
    if data is None:
        raise SystemExit("Fashion-MNIST is not on this machine: apt-get install dataset-fashion-mnist")
    path = data / f"{FILES['train'][0]}.gz"
    if num_images == NUM_IMAGES:
        return path
    some = read_idx(path, gzip.open)[:num_images]
    shorter = folder / path.name
    shorter.write_bytes(gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, *some.shape) + some.tobytes()))
    return shorter


def _out(folder: Path, route: str, way: str) -> Path:
    return folder / f"{way}{'.csv' if route == TO_CSV else '.parquet'}"


def _bind(run: Callable[[Path], object], out: Path) -> Callable[[], object]:
    return lambda: run(out)
