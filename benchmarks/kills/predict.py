"""Kills of `onward predict`, over every kind of source and sink: no row is lost or written twice. Needs no PyTorch."""

from __future__ import annotations

import gzip
import itertools
import os
import random
import struct
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image
from pyarrow import parquet

from benchmarks.kills.tally import NOTHING, Tally, stop_after
from benchmarks.zoo.source import ROOT
from onward.prediction.output import errors_path

__all__ = ["kill_predict"]

#: The bundle of digits that is kept to show that format 1 opens for ever.
BUNDLE = ROOT / "tests" / "runtime" / "bundle" / "bundles" / "format-1"
NUM_IMAGES = 300
#: Every so many files one is damaged.
DAMAGED_EVERY = 50
SOURCES = ("folder", "npy", "npz", "idx.gz", "tar", "parquet", "csv", "stdin")
SINKS = ("csv", "jsonl", "parquet", "npy")
KILLS_A_RUN = 5
#: Rows and errors before they are renamed, and the journal; the next run goes on with them or removes them.
KNOWN = (
    ".rows.part", ".rows.errors.part", ".rows.inputs.part", ".rows.journal", ".rows.whole", ".rows.check",
    ".rows.done.part",
)  # fmt: skip

Result = tuple[object, bytes]


def kill_predict(folder: Path, chance: random.Random, num_kills: int) -> Tally:
    """Kill predictions, half of which replace the rows of another run.

    Args:
        folder: An empty folder to work in.
        chance: Decides the moments.
        num_kills: How many.
    """
    tally = Tally("predict")
    inputs = _make_inputs(folder / "inputs")
    pairs = itertools.cycle(zip(itertools.cycle(SOURCES), (*SINKS, *SINKS[1:], SINKS[0], *SINKS[2:], *SINKS[:2])))
    for number, (source, sink) in enumerate(pairs):
        if tally.num_kills >= num_kills and tally.num_resumed > num_kills / 10:
            return tally
        if number >= 10 * num_kills:
            tally.check(False, "hardly a kill met a run that had committed something")
            return tally
        whole, out = (folder / f"{number}" / name / f"rows.{sink}" for name in ("whole", "killed"))
        began = time.monotonic()
        _finish(_start(inputs, source, whole))
        taken_s, expected = time.monotonic() - began, _result(whole)
        old = None
        if number % 2 == 0:
            _finish(_start(inputs, "few", out))
            old = _result(out)
        out.parent.mkdir(exist_ok=True)
        for _ in range(KILLS_A_RUN):
            process = _start(inputs, source, out, "--resume")
            _wait_for_a_commit(process, out, chance)
            if not stop_after(process, chance.uniform(0, 1.05) * taken_s):
                break
            _look(tally, out, old, expected)
        _finish(_start(inputs, source, out, "--resume"))
        tally.num_completed += 1
        tally.check(_result(out) == expected, f"{source} to {sink} is not what an undisturbed run gives")
        names = sorted(path.name for path in out.parent.iterdir())
        tally.check(names == sorted(path.name for path in whole.parent.iterdir()), f"{names} are in the folder")
    raise AssertionError("the pairs never end")


def _make_inputs(root: Path) -> Path:
    """The same images in every kind of source."""
    images = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, 8, 8), np.uint8)
    (root / "folder").mkdir(parents=True)
    for index, image in enumerate(images):
        path = root / "folder" / f"{index:04}.png"
        Image.fromarray(image).save(path)
        if index % DAMAGED_EVERY == DAMAGED_EVERY - 1:
            path.write_bytes(path.read_bytes()[:30])
    files = sorted((root / "folder").iterdir())
    (root / "few").mkdir()
    for path in (files[7], files[DAMAGED_EVERY - 1]):
        (root / "few" / path.name).write_bytes(path.read_bytes())
    np.save(root / "npy", images)
    np.savez_compressed(root / "npz", images=images)
    header = bytes((0, 0, 8, 3)) + struct.pack(">3I", *images.shape)
    (root / "idx.gz").write_bytes(gzip.compress(header + images.tobytes()))
    with tarfile.open(root / "tar", "w") as shard:
        for path in files:
            shard.add(path, path.name)
    parquet.write_table(pa.table({"image": [path.read_bytes() for path in files]}), root / "parquet")
    (root / "list.csv").write_text("path\n" + "".join(f"folder/{path.name}\n" for path in files))
    (root / "stdin").write_text("".join(f"{path}\n" for path in files))
    return root


def _start(inputs: Path, source: str, out: Path, *options: str) -> subprocess.Popen[str]:
    name = {"npy": "npy.npy", "npz": "npz.npz", "csv": "list.csv"}.get(source, source)
    argument, stdin = ("-", inputs / "stdin") if source == "stdin" else (inputs / name, Path(os.devnull))
    command = [sys.executable, "-m", "onward", "predict", BUNDLE, argument, "--out", out, "--logits"]
    command += ["--batch-size", "4", "--commit-every", "0", *options]
    with stdin.open() as listed:
        return subprocess.Popen(
            [*map(str, command)], cwd=ROOT, stdin=listed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )


def _finish(process: subprocess.Popen[str]) -> None:
    _, said = process.communicate(timeout=120)
    if process.returncode not in (0, 1) or "Traceback" in said:
        raise RuntimeError(f"predict ended with {process.returncode}: {said}")


def _wait_for_a_commit(process: subprocess.Popen[str], out: Path, chance: random.Random) -> None:
    """Half of the time: what comes after the first commit is as long as what comes before it."""
    if chance.random() < 0.5:
        journal = out.with_name(f".{out.name}.journal")
        while process.poll() is None and not journal.exists():
            time.sleep(0.002)


def _look(tally: Tally, out: Path, old: Result | None, new: Result) -> None:
    """What a kill has left."""
    names = [
        path.name
        for path in out.parent.iterdir()
        if path not in (out, errors_path(out), out.with_name(f".{out.name}.done"))
    ]
    rows, errors = _result(out)
    before: Result = old or (None, b"")
    was_replaced = rows == new[0]
    tally.add("the new result" if was_replaced else "the old result" if old else NOTHING, map(_kind, names), KNOWN)
    tally.num_resumed += out.with_name(f".{out.name}.journal").exists()
    tally.check(was_replaced or rows == before[0], "its rows are neither the old nor the new ones")
    # errors are renamed before rows, and the journal then holds what the next run needs to finish
    tally.check(errors == new[1] or (not was_replaced and errors == before[1]), "errors of another run than its rows")


def _kind(name: str) -> str:
    """The name, whatever the format of the rows."""
    for sink in SINKS:
        name = name.replace(f"rows.{sink}", "rows")
    return name


def _result(out: Path) -> Result:
    """The bytes of the rows, or the rows of a Parquet file; and the inputs without one."""
    errors = errors_path(out).read_bytes() if errors_path(out).exists() else b""
    if not out.exists():
        return None, errors
    return parquet.read_table(out).to_pydict() if out.suffix == ".parquet" else out.read_bytes(), errors
