"""Time and size of an export by Onward, with the gate, beside a bare `torch.onnx.export`. Part of `make bench`.

Both run alternately in one process; the figures are medians. Onward writes three artifacts and measures each; the bare
export writes one file and checks nothing.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import nn

from benchmarks.zoo.alive import make_alive
from onward.cli.console import print_table, remark
from onward.signature import Signature
from onward_export.formats.program import quietly
from onward_export.model_to_export import ModelToExport
from onward_export.publish import publish
from onward_training.models import build

FASHION = Signature(28, 28, 1, (0.2859,), (0.353,), tuple(map(str, range(10))))
IMAGENET = Signature(224, 224, 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), tuple(map(str, range(1000))))


@dataclass(frozen=True)
class Round:
    """One export.

    Args:
        bare_s: Seconds of `torch.onnx.export`, with saving.
        stages_s: Stage of Onward's export -> seconds.
        sizes_bytes: Artifact -> its size; `bare` is the bare ONNX file.
    """

    bare_s: float
    stages_s: dict[str, float]
    sizes_bytes: dict[str, int]


def networks() -> Iterator[tuple[str, nn.Module, Signature]]:
    """Name, network and signature of each."""
    torch.manual_seed(0)
    for name in ("classifier", "cnn"):
        yield name, build(name, FASHION).eval(), FASHION
    for name in ("resnet18", "mobilenet_v3_small"):
        network = torchvision.models.get_model(name, weights=None)
        make_alive(network, IMAGENET)
        yield name, network, IMAGENET


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


def one_round(network: nn.Module, signature: Signature, folder: Path) -> Round:
    bare_s = export_bare(network, signature, folder / "bare.onnx")
    marks: list[tuple[str, float]] = []
    bundle = publish(
        ModelToExport(network, signature),
        folder / "bundle",
        on_stage=lambda stage: marks.append((stage, time.perf_counter())),
    )
    marks.append(("", time.perf_counter()))
    stages = {name: after - before for (name, before), (_, after) in itertools.pairwise(marks)}
    sizes = {artifact.name: artifact.file.size_bytes for artifact in bundle.artifacts}
    return Round(bare_s, stages, sizes | {"bare": (folder / "bare.onnx").stat().st_size})


def main() -> None:
    parser = argparse.ArgumentParser(description="Time and size of an export, beside a bare torch.onnx.export.")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    times, sizes = [], []
    for name, network, signature in networks():
        remark(f"{name} …")
        with tempfile.TemporaryDirectory() as folder:
            export_bare(network, signature, Path(folder, "warm.onnx"))  # the first call imports the exporter
            rounds = [one_round(network, signature, Path(folder)) for _ in range(arguments.rounds)]
        bare = statistics.median(item.bare_s for item in rounds)
        stages = {key: statistics.median(item.stages_s[key] for item in rounds) for key in rounds[0].stages_s}
        files = sum(stages[key] for key in ("torch.export", "ONNX", ".pt2", "TorchScript"))
        times.append(
            [name, f"{bare:.1f} s", f"{files:.1f} s", f"{stages['reference in float64']:.1f} s"]
            + [f"{stages['parity gate']:.1f} s", f"{sum(stages.values()):.1f} s"]
        )
        weights = sum(tensor.numel() * tensor.element_size() for tensor in network.state_dict().values())
        sizes.append(
            [name, f"{weights / 1e6:,.2f} MB"]
            + [f"{rounds[0].sizes_bytes[key] / 1e6:,.2f} MB" for key in ("bare", "onnx", "torchscript", "pt2")]
        )
    print_table(["export", ">bare ONNX", ">Onward's files", ">reference", ">gate", ">all of Onward's"], times)
    print_table(["size", ">weights", ">bare ONNX", ">ONNX", ">TorchScript", ">.pt2"], sizes)


if __name__ == "__main__":
    main()
