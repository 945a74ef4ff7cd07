"""`make gpu`: runs every section and writes results.json; `--page RESULTS.json …` writes the tables of docs/gpu.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.gpu.campaign import ROOT, run
from benchmarks.gpu.page import write_page
from benchmarks.gpu.section import STAGES, Setting, run_section
from onward.cli.console import remark

ARTIFACTS = ROOT / "artifacts" / "gpu"


def main() -> int:
    names = [section.name for stage in STAGES for section in stage]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description="Everything that needs a graphics card, in one run."
    )
    parser.add_argument("--out", type=Path, default=ARTIFACTS, help="folder of results.json and log.txt")
    parser.add_argument("--work", type=Path, default=ARTIFACTS / "work", help="folder of bundles and compiled code")
    parser.add_argument("--device", choices=("auto", "cuda", "cpu"), default="auto")
    parser.add_argument("--quick", action="store_true", help="tiny sizes; always so on the CPU")
    parser.add_argument("--limit", type=float, default=540, metavar="SECONDS", help="for everything [default: 540]")
    parser.add_argument("--only", nargs="+", default=(), metavar="SECTION", help=f"of {', '.join(names)}")
    parser.add_argument(
        "--page", type=Path, nargs="+", metavar="JSON", help="results.json of one card: write the page's tables"
    )
    parser.add_argument("--docs", type=Path, default=ROOT / "docs" / "gpu.md", help="the page")
    parser.add_argument("--section", help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.page:
        write_page(arguments.page, arguments.docs)
        return 0
    device = _device() if arguments.device == "auto" else arguments.device
    work, out = arguments.work.resolve(), arguments.out.resolve()
    setting = Setting(device, work, out, quick=arguments.quick or device == "cpu")
    if arguments.section:
        run_section(arguments.section, setting, arguments.rows)
        return 0
    if device == "cpu":
        remark("there is no card here: the CPU takes its place, at tiny sizes")
    results = run(setting, limit_s=arguments.limit, only=arguments.only)
    remark(f"wrote {results}")
    return 0


def _device() -> str:
    """`cuda` where PyTorch finds a card: without onnxruntime-gpu, its rows alone fail."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    sys.exit(main())
