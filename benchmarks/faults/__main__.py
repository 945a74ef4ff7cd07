"""`make faults`: faults planted in ONNX files, and what the gate says of them; it writes docs/faults.md."""

from __future__ import annotations

import argparse
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.faults.campaign import Plan, plant_in_one_network, read, run
from benchmarks.faults.networks import NETWORKS
from benchmarks.faults.page import page
from benchmarks.zoo.source import ROOT
from onward.backends import Threads
from onward.cli.console import remark


def main() -> int:
    """Plant faults; those that were planted already are skipped. The exit code is 1 after an escape."""
    arguments = _parser().parse_args()
    out = arguments.out or ROOT / "artifacts" / "faults" / f"seed-{arguments.seed}"
    plan = Plan(out, arguments.each, arguments.seed, arguments.hours, arguments.jobs or Threads().count)
    if arguments.worker:
        plant_in_one_network(arguments.worker, plan)
        return 0
    patterns = arguments.only or ["*"]
    chosen = [name for name in NETWORKS if any(fnmatch(name, pattern) for pattern in patterns)]
    if not chosen:
        remark(f"no network is named {', '.join(patterns)}; there are: {', '.join(NETWORKS)}.")
        return 2
    problems = run(chosen, plan, tell=remark)
    outcomes = [outcome for name in NETWORKS for outcome in read(plan, name)]
    arguments.page.write_text(page(outcomes, problems, each=plan.each, seed=plan.seed), encoding="utf-8")
    escapes = sum(outcome.is_escape for outcome in outcomes)
    remark(f"wrote {arguments.page}: {len(outcomes)} faults, {escapes} escapes")
    return 1 if escapes or problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=main.__doc__)
    parser.add_argument("--each", type=int, default=8, help="the most faults of a kind in each network")
    parser.add_argument("--seed", type=int, default=0, help="chooses the places")
    parser.add_argument("--only", action="append", metavar="NETWORK", help="name or pattern; repeatable")
    parser.add_argument("--hours", type=float, default=2.0, help="wall time for all networks; 0 only writes the page")
    parser.add_argument("--jobs", type=int, help="processes at a time; one for each core by default")
    parser.add_argument("--out", type=Path, help="folder of the outcomes")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "faults.md", help="the page that is written")
    parser.add_argument("--worker", metavar="NETWORK", help="used for the process of one network")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
