"""`make zoo`: every classification builder of torchvision under the gate; it writes docs/zoo.md and its chart."""

from __future__ import annotations

import signal
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.zoo.campaign import Plan, read, run
from benchmarks.zoo.member import MAX_GMACS, ROOT, members
from benchmarks.zoo.page import chart, page
from onward.backends import Threads
from onward.cli.console import remark
from onward.errors import UsageError


def main(
    budget_minutes: Annotated[float, typer.Option(help="Wall time for all models; 0 only writes the page.")] = 60,
    only: Annotated[str, typer.Option(metavar="GLOB", help="Run only models whose name matches.")] = "*",
    again: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Run this model again (repeatable).")] = None,
    jobs: Annotated[int | None, typer.Option(help="Processes at a time. [default: one for each core]")] = None,
    timeout_s: Annotated[float, typer.Option(help="Time limit for one model.")] = 1200,
    max_gmacs: Annotated[
        float, typer.Option(help="A model with more multiply-adds (10^9 an image) gets smaller images.")
    ] = MAX_GMACS,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = ROOT / "artifacts" / "zoo",
    docs: Annotated[Path, typer.Option(help="Folder of the page.")] = ROOT / "docs",
) -> None:
    """Export every classification builder of torchvision. Completed models are skipped."""
    zoo = members(max_gmacs=max_gmacs)
    chosen = [member for member in zoo if fnmatch(member.name, only)]
    unknown = [name for name in again or () if name not in {member.name for member in chosen}]
    if unknown or not chosen:
        raise UsageError(
            f"torchvision has no classification builder {', '.join(unknown) or only}: "
            "`torchvision.models.list_models()` lists them."
        )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that running processes end, too
    plan = Plan(out, budget_minutes * 60, timeout_s, jobs or Threads().count, tuple(again or ()))
    run(chosen, plan, tell=remark)
    rows = read(out, zoo)
    docs.mkdir(parents=True, exist_ok=True)
    (docs / "zoo.md").write_text(page(zoo, rows), encoding="utf-8")
    if any(row["outcome"] == "passed" for row in rows.values()):
        (docs / "zoo.svg").write_text(chart(rows.values()), encoding="utf-8")
    remark(f"wrote {docs / 'zoo.md'}: {len(rows)} of {len(zoo)} models")


if __name__ == "__main__":
    from onward.cli.console import app
    from onward.cli.console import run as run_app

    application = app(main.__doc__ or "")
    application.command()(main)
    run_app(application, "python -m benchmarks.zoo")
