"""`make zoo`: torchvision's classifiers and 220 of timm's under the gate; it writes docs/zoo.md and its chart."""

from __future__ import annotations

import signal
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.zoo.campaign import Plan, read, run
from benchmarks.zoo.member import SOURCES, members
from benchmarks.zoo.page import chart, is_new, page
from benchmarks.zoo.source import MAX_GMACS, ROOT
from onward.backends import Threads
from onward.cli.console import app, remark
from onward.cli.console import run as run_app
from onward.errors import UsageError


def main(
    hours: Annotated[float, typer.Option(help="Wall time for all models; 0 only writes the page.")] = 1,
    library: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="torchvision or timm (repeatable). [default: both]")
    ] = None,
    only: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Run only models whose name matches (repeatable).")
    ] = None,
    again: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Run this model again (repeatable).")] = None,
    limit: Annotated[int | None, typer.Option(help="Run at most so many models.")] = None,
    jobs: Annotated[int | None, typer.Option(help="Processes at a time. [default: one for each core]")] = None,
    timeout_s: Annotated[float, typer.Option(help="Time limit for one model.")] = 1200,
    memory_gb: Annotated[float, typer.Option(help="Memory limit for one model, on Linux.")] = 8,
    max_gmacs: Annotated[
        float, typer.Option(help="A model of torchvision with more multiply-adds (10^9 an image) gets smaller images.")
    ] = MAX_GMACS,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = ROOT / "artifacts" / "zoo",
    docs: Annotated[Path, typer.Option(help="Folder of the page.")] = ROOT / "docs",
) -> None:
    """Export classifiers of torchvision and timm. Completed models are skipped."""
    libraries = library or list(SOURCES)
    if wrong := [name for name in libraries if name not in SOURCES]:
        raise UsageError(f"--library {wrong[0]}: expected {' or '.join(SOURCES)}.")
    zoo = members(libraries, max_gmacs=max_gmacs)
    chosen = [item for item in zoo if any(fnmatch(item.name, glob) for glob in only or ["*"])]
    unknown = [name for name in again or () if name not in {member.name for member in chosen}]
    if unknown or not chosen:
        raise UsageError(
            f"{' and '.join(libraries)} have no member {', '.join(unknown or only or ())}: members are torchvision's "
            "classification builders and the networks of benchmarks/zoo/timm.json."
        )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that running processes end, too
    plan = Plan(out, hours * 3600, timeout_s, jobs or Threads().count, tuple(again or ()), limit, memory_gb * 1e9)
    if hours:
        run(chosen, plan, tell=remark)
    rows = read(out, zoo)
    docs.mkdir(parents=True, exist_ok=True)
    path = docs / "zoo.md"
    before = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(page(zoo, rows, before), encoding="utf-8")
    for name in libraries:
        passed = [row for member, row in rows.items() if member.library == name and row["outcome"] == "passed"]
        if not is_new(name, rows, before):
            remark(f"{path} keeps its section of {name}, which has more results than these.")
        elif passed:
            (docs / f"zoo-{name}.svg").write_text(chart(passed), encoding="utf-8")
    remark(f"wrote {path}: {len(rows)} of {len(zoo)} models")


if __name__ == "__main__":
    application = app(main.__doc__ or "")
    application.command()(main)
    run_app(application, "python -m benchmarks.zoo")
