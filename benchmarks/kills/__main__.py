"""`make kills`: kills train, export and predict at random moments; it writes docs/kills.md."""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path

from benchmarks.kills.page import page
from benchmarks.kills.predict import kill_predict
from benchmarks.kills.tally import Tally
from benchmarks.zoo.source import ROOT
from onward.cli.console import remark

COMMANDS = ("train", "export", "predict")


def main() -> int:
    """Kill runs at random moments and look at what they leave. The exit code is 1 if one broke the law."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=main.__doc__)
    parser.add_argument("--kills", type=int, default=100, help="of each command")
    parser.add_argument("--seed", type=int, default=0, help="decides the moments")
    parser.add_argument("--only", action="append", choices=COMMANDS, help="repeatable")
    parser.add_argument("--out", type=Path, help="folder of the outcomes; the page shows all that are there")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "kills.md", help="the page that is written")
    arguments = parser.parse_args()
    out = arguments.out or ROOT / "artifacts" / "kills" / f"seed-{arguments.seed}"
    for command in arguments.only or COMMANDS:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="onward-kills-") as folder:
            tally = _kill(command, Path(folder), random.Random(f"{arguments.seed}/{command}"), arguments.kills)
        tally.save(out / f"{command}.json")
        remark(f"{command}: {tally.num_kills} kills, {len(tally.broken)} broken, {time.monotonic() - began:.0f} s")
        for line in tally.broken:
            remark(line)
    tallies = [Tally.load(path) for name in COMMANDS if (path := out / f"{name}.json").exists()]
    arguments.page.write_text(page(tallies, seed=arguments.seed), encoding="utf-8")
    remark(f"wrote {arguments.page}")
    return 1 if any(tally.broken for tally in tallies) else 0


def _kill(command: str, folder: Path, chance: random.Random, num_kills: int) -> Tally:
    if command == "predict":
        return kill_predict(folder, chance, num_kills)
    from benchmarks.kills.export import kill_export
    from benchmarks.kills.train import kill_train, train_once

    if command == "train":
        return kill_train(folder, chance, num_kills)
    train_once(folder / "checkpoint" / "run.pt")
    return kill_export(folder, chance, num_kills, folder / "checkpoint" / "run.pt")


if __name__ == "__main__":
    raise SystemExit(main())
