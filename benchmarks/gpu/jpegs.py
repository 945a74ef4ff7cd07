"""JPEGs: `onward predict` from files on the card, beside the same on the CPU, and beside a DataLoader with PyTorch.

The DataLoader has one process a core, Pillow and torchvision's transforms, pinned batches and PyTorch eager on the
card, as people write it. `decode alone` reads, decodes and resizes as Onward does, and infers nothing.
"""

from __future__ import annotations

import csv
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from benchmarks.gpu import photographs
from benchmarks.gpu.networks import bundle_of, deployable_of
from benchmarks.gpu.section import Row, Setting, attempt
from onward.backends import Threads
from onward.bundle import Bundle
from onward.images.decode import read_image
from onward.prediction import open_engine, predict
from onward.signature import Signature, of_images
from onward.sources import open_sources

__all__ = ["run"]

NUM_ROUNDS = 3
#: On the CPU a few of the files are enough.
NUM_ON_CPU = 500
LOADED_BATCH = 64


@dataclass
class Way:
    """What is measured: a call that writes a CSV, and more that it reports."""

    call: Callable[[Path], object]
    seconds: list[float] = field(default_factory=list)
    report: Row = field(default_factory=dict)


def run(setting: Setting) -> Any:
    """One network is enough: on a card the files bound the speed, not the network."""
    yield from _compare(setting.networks[1], photographs.paths(setting), setting)


def _compare(name: str, paths: Sequence[Path], setting: Setting) -> Any:
    bundle = bundle_of(name, setting)
    signature = of_images(bundle.signature)
    ways: dict[str, Way] = {}
    opened: dict[str, Callable[[], Callable[[Path], object]]] = {
        f"onward predict, {setting.device}": partial(_predict, bundle, paths, setting.device),
        "DataLoader → PyTorch eager": partial(_loader, name, paths, setting),
        "decode alone": partial(_decode, paths, signature),
    }
    if setting.device == "cuda" and name == "resnet18":
        opened["onward predict, cpu"] = partial(_predict, bundle, paths[:NUM_ON_CPU], "cpu")
    out = setting.work / "predictions"
    out.mkdir(exist_ok=True)
    for way, open_it in opened.items():

        def warm(way: str = way, open_it: Callable[[], Callable[[Path], object]] = open_it) -> Row:
            ways[way] = Way(open_it())
            ways[way].call(out / f"{len(ways)}.csv")
            return {}

        row = attempt({"network": name, "way": way}, warm)
        if "error" in row:
            ways.pop(way, None)
            yield row
    files = {way: out / f"{name}-{index}.csv" for index, way in enumerate(ways)}
    for _ in range(1 if setting.quick else NUM_ROUNDS):
        for way, item in ways.items():
            began = time.perf_counter()
            found = item.call(files[way])
            item.seconds.append(time.perf_counter() - began)
            item.report = found if isinstance(found, dict) else {}
    first = next(iter(ways), "")
    for way, item in ways.items():
        median = statistics.median(item.seconds)
        count = min(len(paths), NUM_ON_CPU) if way.endswith("cpu") else len(paths)
        base = {"network": name, "way": way, "num_images": count, "images_s": count / median}
        yield base | item.report | {"same_labels": _agreement(files[first], files[way])}
    yield attempt({"network": name, "way": "the command, from its start"}, partial(_command, bundle, paths, setting))


def _predict(bundle: Bundle, paths: Sequence[Path], provider: str) -> Callable[[Path], Row]:
    engine = open_engine(bundle, provider=provider)

    def call(out: Path) -> Row:
        out.unlink(missing_ok=True)
        summary = predict(engine, open_sources(paths, engine.signature), out)
        stages = {name: round(value, 3) for name, value in vars(summary.seconds).items()}
        placement = summary.placement.describe() if summary.placement is not None else None
        return {"seconds_of_threads": stages, "placement": placement}

    return call


class _Files(Dataset[torch.Tensor]):
    def __init__(self, paths: Sequence[Path], signature: Signature) -> None:
        from torchvision import transforms

        self.paths = paths
        side = signature.preprocess.shorter_side_px or signature.height
        self.transform = transforms.Compose(
            [
                transforms.Resize(side),
                transforms.CenterCrop((signature.height, signature.width)),
                transforms.ToTensor(),
                transforms.Normalize(signature.mean, signature.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> torch.Tensor:
        from PIL import Image

        with self.paths[index].open("rb") as stream:
            image: torch.Tensor = self.transform(Image.open(stream).convert("RGB"))
            return image


def _loader(name: str, paths: Sequence[Path], setting: Setting) -> Callable[[Path], None]:
    deployable, signature = deployable_of(name, setting)
    model = deployable.model.to(setting.device)
    loader = DataLoader(
        _Files(paths, signature),
        LOADED_BATCH,
        num_workers=1 if setting.quick else Threads().count,
        pin_memory=setting.device == "cuda",
        persistent_workers=True,
    )

    def call(out: Path) -> None:
        with out.open("w", newline="") as stream, torch.inference_mode():
            writer = csv.writer(stream)
            writer.writerow(["input", "label"])
            start = 0
            for images in loader:
                found = torch.softmax(model(images.to(setting.device, non_blocking=True)), 1).argmax(1).tolist()
                writer.writerows(zip(paths[start:], [signature.labels[index] for index in found], strict=False))
                start += len(found)

    return call


def _decode(paths: Sequence[Path], signature: Signature) -> Callable[[Path], None]:
    def call(out: Path) -> None:
        with ThreadPoolExecutor(Threads().count) as pool:
            for _ in pool.map(lambda path: read_image(path, signature), paths):
                pass

    return call


def _agreement(one: Path, other: Path) -> float | None:
    if not one.is_file() or not other.is_file():
        return None
    columns = []
    for path in (one, other):
        with path.open(newline="") as stream:
            columns.append([row["label"] for row in csv.DictReader(stream)])
    pairs = list(zip(*columns, strict=False))
    return sum(a == b for a, b in pairs) / len(pairs) if pairs else None


def _command(bundle: Bundle, paths: Sequence[Path], setting: Setting) -> Row:
    """`onward predict BUNDLE FOLDER --provider cuda`, in a process of its own that never imports PyTorch."""
    out = setting.work / "predictions" / "command.csv"
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", "onward", "predict", str(bundle.path), str(paths[0].parent)]
    command += ["--provider", setting.device, "--out", str(out), "--json"]
    began = time.perf_counter()
    answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    seconds = time.perf_counter() - began
    if answer.returncode:
        raise RuntimeError(f"exit code {answer.returncode}: {' '.join(answer.stderr.split())}")
    return {"num_images": len(paths), "images_s": len(paths) / seconds, "summary": json.loads(answer.stdout)}
