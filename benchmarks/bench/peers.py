"""Peers: the speeds that were measured before Onward began, measured again with `onward bench`.

    python -m benchmarks.bench peers --folder F

It prints the table, draws docs/bench-peers.svg, and writes the page of `onward bench --html` for each network.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import nan
from pathlib import Path

from benchmarks.bench.bundles import NETWORKS, bundle_paths
from onward.benchmarking.bench import bench
from onward.benchmarking.page import write_page
from onward.benchmarking.spec import BenchOptions, BenchSpec, Selection
from onward.cli.console import print_table, remark
from onward.report.charts import bars, standalone

__all__ = ["compare_with_peers"]

CHART = Path(__file__).parents[2] / "docs" / "bench-peers.svg"
TITLES = {"classifier": "MLP", "cnn": "CNN", "resnet18": "ResNet", "mobilenet_v3_small": "Mobile"}
BACKENDS = ("torch", "torch-channels-last", "torch-compile", "torchscript", "onnxruntime", "openvino")
#: Network, batch size -> images/s then, for each of `BACKENDS`, on two cores of another processor (Zen 5); None if
#: there is no figure.
THEN: dict[tuple[str, int], tuple[float | None, ...]] = {
    ("classifier", 1): (25_800, None, 19_400, 43_600, 90_500, 34_000),
    ("classifier", 1024): (384_000, None, 374_000, 377_000, 728_000, 938_000),
    ("cnn", 1): (6_700, 7_800, 6_700, 6_400, 27_900, 16_100),
    ("cnn", 32): (10_400, None, 30_900, 31_200, 48_400, 42_300),
    ("resnet18", 1): (51, 61, 92, 77, 111, 110),
    ("resnet18", 32): (56, 78, 103, 92, 125, 127),
    ("mobilenet_v3_small", 1): (275, 340, 441, 343, 1651, 1748),
    ("mobilenet_v3_small", 32): (350, 631, 1316, 1151, 1453, 1632),
    ("mobilenet_v3_small", 128): (149, 318, 570, 565, 982, 1327),
}


def compare_with_peers(folder: Path) -> None:
    """Measure, print the table, draw it, and write a page for each network."""
    rows = []
    ratios: dict[str, dict[str, float]] = {}
    for network, path in bundle_paths(folder).items():
        remark(f"{network} …")
        options = BenchOptions(batch_sizes=NETWORKS[network], num_process_runs=3, budget_s=1.0)
        report = bench(BenchSpec([str(path)], Selection(backends=BACKENDS), with_files=False), options)
        write_page(folder / f"{network}.html", report)
        for row in report.rows:
            then = THEN[network, row.batch_size][BACKENDS.index(row.candidate.backend)]
            reference = THEN[network, row.batch_size][0]
            assert reference is not None
            now = row.ratio.value if row.ratio else nan
            ratios.setdefault(f"{TITLES[network]} {row.batch_size}", {})[row.candidate.title] = now
            rows.append(
                [network, str(row.batch_size), row.candidate.title, f"{row.images_per_s or 0:,.0f}", f"{now:.2f}"]
                + ([""] * 2 if then is None else [f"{then / reference:.2f}", f"{now / (then / reference):.2f}"])
                + ["" if row.is_stable else ", ".join(item.kind for item in row.instabilities)]
            )
    print_table(["", ">batch", "", ">images/s", ">× PyTorch", ">then", ">now over then", ""], rows)
    CHART.write_text(chart(ratios), encoding="utf-8")


def chart(ratios: Mapping[str, Mapping[str, float]]) -> str:
    """An SVG of network and batch size -> backend -> speed relative to PyTorch."""
    return standalone(bars(ratios, y_label="× PyTorch", rule=1.0))
