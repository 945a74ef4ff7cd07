"""Kills of `onward train`: a run that is resumed after its kills ends with the bits of an undisturbed one."""

from __future__ import annotations

import json
import os
import random
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.kills.tally import NOTHING, Tally, stop_after
from onward.errors import OnwardError
from onward_training.checkpoint import Checkpoint
from onward_training.run_folder import RunFolder
from tests.forks import Fork

__all__ = ["kill_train", "state_of", "train_once"]

NETWORK = json.dumps({"widths": [4, 8], "num_hidden": 16})
#: Twelve epochs of a second, saved ten times a second.
OPTIONS = ("--data", "digits", "--model", "cnn", "--model-args", NETWORK, "--epochs", "12", "--augment", "crop",
           "--schedule", "one-cycle", "--save-minutes", "0.001")  # fmt: skip
OLD_SEED, NEW_SEED = 1, 0
KILLS_A_RUN = 5
FILES = {"run.pt", "run.last.pt", "run.metrics.jsonl", "run.batch.png", "run.options.toml"}
#: The lock, and the files before they are renamed; the next run removes them.
KNOWN = (".run.pt.lock", *(f".{name}.part" for name in sorted(FILES)))


def kill_train(folder: Path, chance: random.Random, num_kills: int) -> Tally:
    """Kill trainings, half of which replace the result of another run.

    Args:
        folder: An empty folder to work in.
        chance: Decides the moments.
        num_kills: How many.
    """
    tally, old, whole = Tally("train"), folder / "old" / "run.pt", folder / "whole" / "run.pt"
    for path, seed in ((old, OLD_SEED), (whole, NEW_SEED)):  # the second one does not wait for imports
        began = time.monotonic()
        train_once(path, seed)
        whole_s = time.monotonic() - began
    expected, before = _everything(whole), old.read_bytes()
    number = 0
    while tally.num_kills < num_kills:
        number += 1
        out = folder / f"run-{number}" / "run.pt"
        out.parent.mkdir()
        if has_old := number % 2 == 1:
            for path in old.parent.iterdir():
                (out.parent / path.name).write_bytes(path.read_bytes())
        for attempt in range(KILLS_A_RUN):
            began = time.monotonic()
            with _start(out, NEW_SEED) as process:
                if not stop_after(process, chance.uniform(0, 1.05) * whole_s):
                    if not attempt:  # a whole run, and the machine is faster than it was
                        whole_s = min(whole_s, time.monotonic() - began)
                    break
            _look(tally, out, before if has_old else None)
            if tally.num_kills == num_kills:
                break
        train_once(out)
        tally.num_completed += 1
        tally.check(_everything(out) == expected, f"{out} is not that of an undisturbed run")
        names = {path.name for path in out.parent.iterdir()}
        tally.check(names == {path.name for path in whole.parent.iterdir()}, f"{sorted(names)} are in the folder")
    return tally


def state_of(checkpoint: Checkpoint) -> tuple[object, ...]:
    """All that two runs must have in common; not the time that they took."""
    history = [replace(epoch, elapsed_s=0) for epoch in checkpoint.history]
    provenance = (checkpoint.provenance["best_epoch"], checkpoint.provenance["options"])
    return checkpoint.weights_digest(), history, provenance, str(checkpoint.optimizer)


def _start(out: Path, seed: int) -> Fork:
    """Begin, or go on where the files are those of this run."""
    last = RunFolder(out).last_path
    is_ours = last.exists() and Checkpoint.load(last).provenance["options"]["seed"] == seed
    more = ["--resume" if is_ours else "--overwrite", "--seed", str(seed)]
    return Fork("onward", ["train", *OPTIONS, "--out", str(out), *more], env=os.environ | {"OMP_NUM_THREADS": "1"})


def train_once(out: Path, seed: int = NEW_SEED) -> None:
    """Train, or go on with the run that is there, to the end."""
    with _start(out, seed) as process:
        _, said = process.communicate(timeout=300)
    if process.returncode:
        raise RuntimeError(f"train ended with {process.returncode}: {said}")


def _look(tally: Tally, out: Path, old: bytes | None) -> None:
    """What a kill has left: every file whole, and all of one run."""
    names = {path.name for path in out.parent.iterdir()} - FILES
    try:
        found = RunFolder(out).find()
        best = Checkpoint.load(out) if out.exists() else None
    except OnwardError as error:
        tally.add("damaged", names, KNOWN)
        tally.check(False, str(error))
        return
    is_old = old is not None and out.read_bytes() == old
    tally.add("the old result" if is_old else "an epoch of the new run" if best else NOTHING, names, KNOWN)
    if found is not None and best is not None:
        tally.num_resumed += _seed(found[0]) == NEW_SEED
        # the old result stays until the new run has an epoch of its own
        tally.check(is_old or _seed(found[0]) == _seed(best), "the latest state is of another run than the best epoch")


def _seed(checkpoint: Checkpoint) -> int:
    return int(checkpoint.provenance["options"]["seed"])


def _everything(out: Path) -> list[Any]:
    run_folder = RunFolder(out)
    lines = [json.loads(line) | {"elapsed_s": 0} for line in run_folder.metrics_path.read_text().splitlines()]
    return [state_of(Checkpoint.load(path)) for path in (out, run_folder.last_path)] + lines
