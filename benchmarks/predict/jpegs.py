"""JPEGs: 1,000 photographs of 500×375 pixels to a CSV of labels, by ResNet-18 and MobileNetV3-small at 224×224.

Opening the models and starting DataLoader's processes is not measured. The ways:

- Onward: `predict` on the bundle, with default settings.
- torchvision's: a DataLoader with two processes and batches of 32, Pillow and its transforms; onnxruntime on a file of
  the same weights that takes floats, with one thread per core. The threads do not spin: DataLoader's processes need the
  cores, and with onnxruntime's default this way is slower.
- timm's: the same loader; PyTorch eager in inference mode.
- Handmade: one thread per core, each of which reads, decodes, resizes, crops and infers batches of 16 in onnxruntime.

The limit for all ways is measured, too: decoding alone, and inference alone, on all cores.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.predict.handmade import handmade_way
from benchmarks.predict.limits import DECODE, limit_of, limit_ways
from benchmarks.predict.loader import eager_way, open_loader, session_way
from benchmarks.predict.network import BenchmarkNetwork, of_torchvision, session_of
from benchmarks.predict.options import ComparisonOptions
from benchmarks.predict.photographs import photographs
from benchmarks.predict.rounds import measure_in_rounds, ratio_of, throughput_of
from benchmarks.predict.rows import agreement
from onward.backends import Threads
from onward.cli.console import print_table, remark
from onward.prediction import open_engine, predict
from onward.sources import open_sources

__all__ = ["compare"]

NUM_ROUNDS = 7
NUM_IMAGES = 1000
NUM_WORKERS = 2
NETWORKS = ("resnet18", "mobilenet_v3_small")
ONWARD = "Onward predict"


def compare(options: ComparisonOptions) -> None:
    """Measure, and print the table."""
    with options.kept() as folder:
        paths = photographs(folder, options.num_images or NUM_IMAGES)
        networks = {name: of_torchvision(name, folder) for name in options.networks or NETWORKS}
        table = []
        for name, network in networks.items():
            remark(f" {name}")
            table += _rows(name, network, paths, options.num_rounds or NUM_ROUNDS)
    columns = ["network", "way", ">images/s", ">Onward is × as fast", ">of the limit", ">same labels"]
    print_table(columns, table)


def _rows(name: str, network: BenchmarkNetwork, paths: Sequence[Path], num_rounds: int) -> list[list[str]]:
    num_cores = Threads().count
    with tempfile.TemporaryDirectory() as place:
        ways = _ways(network, paths, num_cores)
        outs = {way: Path(place, f"{index}.csv") for index, way in enumerate(ways)}
        measures = {way: throughput_of(_bind(ways[way], out), len(paths)) for way, out in outs.items()}
        speeds = measure_in_rounds(measures | limit_ways(network, paths, num_cores), num_rounds)
        same = {way: agreement(outs[ONWARD], out) for way, out in outs.items()}
    limit, ours = limit_of(speeds), speeds[ONWARD]
    measured = {**{way: speeds[way] for way in ways}, DECODE: limit.decode, limit.arrangement: limit.infer}
    return [
        [name, way, f"{statistics.median(taken):,.1f}", f"{ratio_of(ours, taken):.2f}"]
        + ([f"{limit.share(taken):.1%}", f"{same[way]:.1%}"] if way in ways else ["", ""])
        for way, taken in (measured | {"the limit": limit.both}).items()
    ]


def _ways(network: BenchmarkNetwork, paths: Sequence[Path], num_cores: int) -> dict[str, Callable[[Path], object]]:
    engine = open_engine(network.bundle)
    loader = open_loader(paths, network.signature, NUM_WORKERS)
    whole, single = session_of(network, num_cores, spin=False), session_of(network, 1)
    return {
        ONWARD: lambda out: predict(engine, open_sources(paths, engine.signature), out),
        "DataLoader → onnxruntime": lambda out: session_way(loader, whole, network, paths, out),
        "DataLoader → PyTorch eager": lambda out: eager_way(loader, network, paths, out),
        "handmade → onnxruntime": lambda out: handmade_way(paths, single, network, num_cores, out),
    }


def _bind(run: Callable[[Path], object], out: Path) -> Callable[[], object]:
    return lambda: run(out)
