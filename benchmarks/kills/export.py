"""Kills of `onward export`: the old or the new bundle is there, whole; the next one removes the rest."""

from __future__ import annotations

import os
import random
import shutil
import time
from pathlib import Path

from benchmarks.kills.tally import NOTHING, Tally, stop_after
from onward.bundle import Bundle
from onward.errors import OnwardError
from tests.forks import Fork

__all__ = ["NEW", "OLD", "kill_export", "start_export"]

#: The only difference between the two bundles.
OLD, NEW = "old licence", "new licence"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
#: After so many kills, an export is completed beside what they left.
KILLS_A_RUN = 5
#: The lock, and the folder before it is exchanged with the bundle; the next export removes them.
KNOWN = (".model.lock", ".model.staged")


def kill_export(folder: Path, chance: random.Random, num_kills: int, checkpoint: Path) -> Tally:
    """Kill exports, half of which replace a bundle.

    Args:
        folder: An empty folder to work in.
        chance: Decides the moments.
        num_kills: How many.
        checkpoint: What is exported.
    """
    tally, old = Tally("export"), folder / "old" / "model"
    with Fork("onward", ["--version"], env=ENVIRONMENT) as process:
        process.communicate(timeout=300)  # what forks has imported PyTorch, then
    began = time.monotonic()
    _finish(checkpoint, old, OLD)
    whole_s, expected, number = time.monotonic() - began, list[tuple[str, str]](), 0
    while tally.num_kills < num_kills:
        number += 1
        out = folder / f"run-{number}" / "model"
        out.parent.mkdir()
        for _ in range(KILLS_A_RUN):
            shutil.rmtree(out, ignore_errors=True)
            if number % 2 == 1:
                shutil.copytree(old, out)
            # the last tenth, in which the folder is replaced, as often as all the time before it
            share = chance.uniform(0, 0.9) if chance.random() < 0.5 else chance.uniform(0.9, 1.05)
            with start_export(checkpoint, out, NEW) as process:
                was_killed = stop_after(process, share * whole_s)
            if was_killed:
                _look(tally, out, number % 2 == 1)
            if tally.num_kills == num_kills:
                break
        began = time.monotonic()
        _finish(checkpoint, out, NEW)
        whole_s = time.monotonic() - began  # what else the machine does changes it
        tally.num_completed += 1
        expected = expected or _digests(out)
        tally.check(_digests(out) == expected, f"{out} has other bytes than the first one")
        names = [path.name for path in out.parent.iterdir()]
        tally.check(names == ["model"], f"{sorted(names)} are in the folder")
    return tally


def start_export(checkpoint: Path, out: Path, licence: str, function: str = "onward") -> Fork:
    """`onward export`, in a process of its own."""
    arguments = ["export", str(checkpoint), "--out", str(out), "--formats", "onnx", "--licence", licence, "--overwrite"]
    return Fork(function, arguments, env=ENVIRONMENT)


def _finish(checkpoint: Path, out: Path, licence: str) -> None:
    with start_export(checkpoint, out, licence) as process:
        _, said = process.communicate(timeout=300)
    if process.returncode:
        raise RuntimeError(f"export ended with {process.returncode}: {said}")


def _look(tally: Tally, out: Path, has_old: bool) -> None:
    names = {path.name for path in out.parent.iterdir()} - {out.name}
    if not out.exists():
        tally.add(NOTHING, names, KNOWN)
        tally.check(not has_old, "the old bundle is gone")
        return
    try:
        bundle = Bundle.open(out)
        bundle.check()
    except OnwardError as error:
        tally.add("damaged", names, KNOWN)
        tally.check(False, str(error))
        return
    licence = bundle.provenance["licence"]
    tally.add("the old result" if licence == OLD else "the new result", names, KNOWN)
    tally.check(licence in (OLD, NEW) if has_old else licence == NEW, f"its licence is {licence!r}")


def _digests(out: Path) -> list[tuple[str, str]]:
    """The artifacts' bytes."""
    return [(item.name, item.file.sha256) for item in Bundle.open(out).artifacts]
