"""`make fuzz`: damaged files for every reader; it writes docs/fuzz.md."""

from __future__ import annotations

import argparse
from fnmatch import fnmatch
from pathlib import Path

from benchmarks.fuzz.campaign import Plan, read, run
from benchmarks.fuzz.case import input_of, run_case
from benchmarks.fuzz.page import page
from benchmarks.fuzz.readers import READERS
from benchmarks.fuzz.worker import work
from benchmarks.zoo.source import ROOT
from onward.backends import Threads
from onward.cli.console import remark, say


def main() -> int:
    """Damage files; cases that ran already are skipped. The exit code is 1 after a failure."""
    arguments = _parser().parse_args()
    if arguments.worker:
        reader, seed, out, start, end, lost = arguments.worker
        work(reader, int(seed), Path(out), int(start), int(end), frozenset(map(int, filter(None, lost.split(",")))))
        return 0
    if arguments.case:
        return _show(arguments.case[0], arguments.seed, int(arguments.case[1]), arguments.save)
    chosen = [name for name in READERS if any(fnmatch(name, pattern) for pattern in arguments.only or ["*"])]
    if not chosen:
        remark(f"no reader is named {', '.join(arguments.only)}; there are: {', '.join(READERS)}.")
        return 2
    out = arguments.out or ROOT / "artifacts" / "fuzz" / f"seed-{arguments.seed}"
    jobs = arguments.jobs or Threads().count
    plan = Plan(out, -(-arguments.cases // len(READERS)), arguments.seed, jobs, arguments.hours)
    run(chosen, plan, tell=remark)
    outcomes = [read(plan, name) for name in READERS]
    arguments.page.write_text(page(outcomes, seed=plan.seed), encoding="utf-8")
    num_failures = sum(len(item.failures) for item in outcomes)
    remark(f"wrote {arguments.page}: {sum(item.num_cases for item in outcomes):,} cases, {num_failures} failures")
    return 1 if num_failures else 0


def _show(reader: str, seed: int, at: int, save: Path | None) -> int:
    if save is not None:
        save.write_bytes(input_of(reader, seed, at))
    result = run_case(reader, seed, at)
    say(f"{reader}, case {at}: {result.outcome} {result.where}")
    return 0 if result.outcome in ("read", "refused") else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz", description=main.__doc__)
    parser.add_argument("--cases", type=int, default=100_000, help="of all readers together")
    parser.add_argument("--seed", type=int, default=0, help="decides all cases")
    parser.add_argument("--only", action="append", metavar="READER", help="name or pattern; repeatable")
    parser.add_argument("--hours", type=float, default=2.0, help="wall time for all readers")
    parser.add_argument("--jobs", type=int, help="processes at a time; one for each core by default")
    parser.add_argument("--out", type=Path, help="folder of the outcomes")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "fuzz.md", help="the page that is written")
    parser.add_argument("--case", nargs=2, metavar=("READER", "NUMBER"), help="run one case, and say what became of it")
    parser.add_argument("--save", type=Path, help="with --case, write its file here")
    parser.add_argument("--worker", nargs=6, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
