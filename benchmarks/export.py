"""Time and size of an export by Onward, with the gate, beside a bare `torch.onnx.export`. Part of `make bench`.

Both run alternately in one process that has imported both, A B A B; the figures are medians of the wall time. Onward
writes three artifacts and measures each; the bare export writes one file and checks nothing.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torchvision
from torch import nn

from benchmarks.zoo.alive import make_alive
from onward.cli.console import print_table, remark
from onward.host.cpu import find_processor
from onward.signature import Signature
from onward_export.formats.program import quietly
from onward_export.model_to_export import ModelToExport
from onward_export.options import ExportOptions
from onward_export.publish import publish
from onward_export.stages import StageClock
from onward_training.models import build

NETWORKS = (
    *("classifier", "cnn", "resnet18", "resnet50", "mobilenet_v3_small", "convnext_tiny"),
    *("vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"),
)
FASHION = Signature(28, 28, 1, (0.2859,), (0.353,), tuple(map(str, range(10))))
IMAGENET = Signature(224, 224, 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), tuple(map(str, range(1000))))


@dataclass(frozen=True)
class Round:
    """One export.

    Args:
        bare_s: Seconds of `torch.onnx.export`, with saving.
        onward_s: Seconds of Onward's export.
        stages_s: Stage of it -> seconds.
        num_samples: How many samples of each kind its gate used.
        sizes_bytes: Artifact -> its size; `bare` is the bare ONNX file.
    """

    bare_s: float
    onward_s: float
    stages_s: dict[str, float]
    num_samples: int
    sizes_bytes: dict[str, int]


def networks() -> Iterator[tuple[str, nn.Module, Signature]]:
    """Name, network and signature of each."""
    for name in ("classifier", "cnn", "resnet18", "mobilenet_v3_small"):
        yield named(name)


def named(name: str) -> tuple[str, nn.Module, Signature]:
    """One network with random weights by its name: of Onward, torchvision or timm."""
    torch.manual_seed(0)
    if name in ("classifier", "cnn"):
        return name, build(name, FASHION).eval(), FASHION
    if name in torchvision.models.list_models():
        network = torchvision.models.get_model(name, weights=None)
    else:
        network = timm.create_model(name)
    make_alive(network, IMAGENET)
    return name, network, IMAGENET


def export_bare(network: nn.Module, signature: Signature, path: Path) -> float:
    """Seconds of the plain export to an ONNX file, for float input and a free batch."""
    example = torch.zeros(2, signature.channels, signature.height, signature.width)
    began = time.perf_counter()
    with quietly():
        program = torch.onnx.export(
            network, (example,), dynamo=True, verbose=False, dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
    assert program is not None
    program.save(path)
    return time.perf_counter() - began


def one_round(network: nn.Module, signature: Signature, folder: Path, *, is_thorough: bool = False) -> Round:
    bare_s = export_bare(network, signature, folder / "bare.onnx")
    began, stages = time.perf_counter(), StageClock(lambda stage: None)
    options = ExportOptions(thorough=is_thorough)
    bundle = publish(ModelToExport(network, signature), folder / "bundle", options=options, on_stage=stages.begin)
    onward_s, stages_s = time.perf_counter() - began, stages.seconds()
    parity = bundle.parity()
    num_samples = next(row["num_samples"] for row in parity["artifacts"][0]["comparisons"] if row["kind"] == "random")
    sizes = {artifact.name: artifact.file.size_bytes for artifact in bundle.artifacts}
    sizes["bare"] = (folder / "bare.onnx").stat().st_size
    return Round(bare_s, onward_s, stages_s, num_samples, sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and size of an export, beside a bare torch.onnx.export.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--thorough", action="store_true")
    arguments = parser.parse_args()
    times, sizes = [], []
    for name, network, signature in map(named, arguments.networks):
        remark(f"{name} …")
        with tempfile.TemporaryDirectory() as folder:
            export_bare(network, signature, Path(folder, "warm.onnx"))  # the first call imports the exporter
            rounds = [
                one_round(network, signature, Path(folder), is_thorough=arguments.thorough)
                for _ in range(arguments.rounds)
            ]
        bare = statistics.median(item.bare_s for item in rounds)
        all_s = statistics.median(item.onward_s for item in rounds)
        ratio = statistics.median(item.onward_s / item.bare_s for item in rounds)
        stages = {key: statistics.median(item.stages_s[key] for item in rounds) for key in rounds[0].stages_s}
        files = sum(stages[key] for key in ("torch.export", "ONNX", ".pt2", "TorchScript"))
        times.append(
            [name, f"{bare:.1f} s", f"{files:.1f} s", f"{stages['reference in float64']:.1f} s"]
            + [f"{stages['parity gate']:.1f} s", f"{all_s:.1f} s", f"{ratio:.1f}", str(rounds[0].num_samples)]
        )
        weights = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
        sizes.append(
            [name, f"{weights / 1e6:,.2f} MB"]
            + [f"{rounds[0].sizes_bytes[key] / 1e6:,.2f} MB" for key in ("bare", "onnx", "torchscript", "pt2")]
        )
    columns = ["export", ">bare ONNX", ">Onward's files", ">reference", ">gate", ">all of Onward's", ">× bare"]
    print(f"{find_processor().model}, {torch.get_num_threads()} threads")
    print_table([*columns, ">samples of a kind"], times)
    print_table(["size", ">weights", ">bare ONNX", ">ONNX", ">TorchScript", ">.pt2"], sizes)


if __name__ == "__main__":
    main()
