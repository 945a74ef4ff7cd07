"""Onward's predict beside a bare onnxruntime loop and the course's way: `make bench`.

10,000 Fashion-MNIST test images, from the gzipped IDX file to a CSV of label and probability, by the network
784-256-128-64-10. In one process, in turns (A B C A B C …), medians over rounds; opening the models is not counted.

- Onward: `predict` on the bundle.
- Bare loop: gzip, numpy, onnxruntime, csv, one after the other, on a float-input ONNX file of the same weights.
- The course's way: a DataLoader of 64, PIL, ToTensor and Normalize image by image, PyTorch eager.
"""

from __future__ import annotations

import csv
import gzip
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from export.commands import source_of
from export.options import ExportOptions
from export.publish import publish
from runtime.bundle import Bundle
from runtime.console import print_table
from runtime.predict import open_engine, predict
from runtime.sources import open_sources
from runtime.tensor_signature import of_images
from training.checkpoint import Checkpoint
from training.data import load as load_data
from training.data.idx_files import FILES, find_folder
from training.loop import train
from training.options import Options

NUM_ROUNDS = 9
BATCH_SIZE = 1024
COURSE_BATCH_SIZE = 64
REST_S = 0.2  # onnxruntime's threads spin on after an inference; the next one should not pay for it


class Course(Dataset[Tensor]):
    """Images one by one, as torchvision's data sets give them."""

    def __init__(self, images: np.ndarray, transform: Callable[[Image.Image], Tensor]) -> None:
        self.images, self.transform = images, transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.transform(Image.fromarray(self.images[index]))


def read_idx(path: Path) -> np.ndarray:
    with gzip.open(path) as stream:
        return np.frombuffer(stream.read(), np.uint8, offset=16).reshape(-1, 28, 28)


def onward_way(bundle: Bundle, path: Path, out: Path) -> Callable[[], None]:
    engine = open_engine(bundle)

    def run() -> None:
        predict(engine, open_sources([path], engine.signature), out)

    return run


def bare_loop(checkpoint: Checkpoint, path: Path, out: Path, folder: Path) -> Callable[[], None]:
    model = nn.Sequential(checkpoint.network(), nn.Softmax(1)).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model,
            (torch.zeros(2, 1, 28, 28),),
            dynamo=True,
            verbose=False,
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    assert program is not None
    program.save(folder / "float.onnx")
    session = ort.InferenceSession(folder / "float.onnx", providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    signature = of_images(checkpoint.signature)
    (mean,), (std,) = signature.mean, signature.std
    scale, shift = np.float32(1 / (255 * std)), np.float32(-mean / std)

    def run() -> None:
        images = read_idx(path)
        with out.open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["input", "label", "index", "probability"])
            for start in range(0, len(images), BATCH_SIZE):
                batch = images[start : start + BATCH_SIZE, None].astype(np.float32) * scale + shift
                probabilities = session.run(None, {name: batch})[0]
                for row, index in enumerate(probabilities.argmax(1)):
                    label = checkpoint.signature.labels[index]
                    writer.writerow([start + row, label, index, f"{probabilities[row, index]:.6f}"])

    return run


def course_way(checkpoint: Checkpoint, path: Path, out: Path) -> Callable[[], None]:
    network = checkpoint.network()
    signature = of_images(checkpoint.signature)
    normalize = transforms.Normalize(signature.mean, signature.std)
    transform = transforms.Compose([transforms.ToTensor(), normalize])

    def run() -> None:
        loader = DataLoader(Course(read_idx(path), transform), batch_size=COURSE_BATCH_SIZE)
        with out.open("w", newline="") as stream, torch.no_grad():
            writer = csv.writer(stream)
            writer.writerow(["input", "label", "index", "probability"])
            number = 0
            for batch in loader:
                probabilities = torch.softmax(network(batch), 1)
                values, indices = probabilities.max(1)
                for value, index in zip(values.tolist(), indices.tolist(), strict=True):
                    writer.writerow([number, checkpoint.signature.labels[index], index, f"{value:.6f}"])
                    number += 1

    return run


def labels_in(path: Path) -> list[str]:
    with path.open(newline="") as stream:
        return [row["label"] for row in csv.DictReader(stream)]


def main() -> None:
    folder_of_data = find_folder("fashion-mnist")
    if folder_of_data is None:
        raise SystemExit("Fashion-MNIST is not on this machine: apt-get install dataset-fashion-mnist")
    path = folder_of_data / f"{FILES['test'][0]}.gz"
    checkpoint = train(load_data("fashion-mnist"), Options(model="classifier", epochs=1))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = publish(source_of(checkpoint), folder / "bundle", options=ExportOptions(formats=("onnx",)))
        outs = [folder / f"{index}.csv" for index in range(3)]
        ways = {
            "Onward predict": onward_way(bundle, path, outs[0]),
            "bare onnxruntime loop": bare_loop(checkpoint, path, outs[1], folder),
            "the course's way": course_way(checkpoint, path, outs[2]),
        }
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(NUM_ROUNDS + 1):
            for way, run in ways.items():
                time.sleep(REST_S)
                began = time.perf_counter()
                run()
                if number:  # the first round warms up
                    seconds[way].append(time.perf_counter() - began)
        rows = [labels_in(out) for out in outs]
    agreement = [np.mean([one == other for one, other in zip(rows[0], item, strict=True)]) for item in rows]
    onward = seconds["Onward predict"]
    table = []
    for (way, taken), agrees in zip(seconds.items(), agreement, strict=True):
        ratio = statistics.median(other / ours for other, ours in zip(taken, onward, strict=True))
        median = statistics.median(taken)
        table.append([way, f"{median * 1e3:.0f}", f"{len(rows[0]) / median:,.0f}", f"{ratio:.2f}", f"{agrees:.2%}"])
    print_table(["", ">median ms", ">images/s", ">Onward is × as fast", ">same labels"], table)


if __name__ == "__main__":
    main()
