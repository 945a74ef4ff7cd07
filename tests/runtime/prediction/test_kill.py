"""A run is killed with SIGKILL at random moments and resumed: no row is lost or written twice.

A subprocess runs the command; nothing in it is replaced. `make soak` asks for 200 kills over all sources and sinks.
"""

from __future__ import annotations

import gzip
import itertools
import os
import random
import signal
import struct
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from PIL import Image

from onward.bundle import Bundle
from onward.prediction.output import errors_path

ROOT = Path(__file__).parents[3]
#: `make soak` asks for more.
NUM_KILLS = int(os.environ.get("ONWARD_PREDICT_KILLS", "4"))
KILLS_A_RUN = 5
NUM_IMAGES = 300
SOURCES = ("folder", "npy", "npz", "idx.gz", "tar", "parquet", "csv", "stdin")
SINKS = ("csv", "jsonl", "parquet", "npy")


@pytest.fixture(scope="module")
def inputs(digits: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same digits in every kind of source; every 50th file is damaged."""
    root = tmp_path_factory.mktemp("inputs")
    images = digits.train.images[:NUM_IMAGES, ..., 0]
    (root / "folder").mkdir()
    for index, image in enumerate(images):
        path = root / "folder" / f"{index:04}.png"
        Image.fromarray(image).save(path)
        if index % 50 == 49:
            path.write_bytes(path.read_bytes()[:30])
    files = sorted((root / "folder").iterdir())
    np.save(root / "npy", images)
    np.savez_compressed(root / "npz", images=images)
    header = bytes((0, 0, 8, 3)) + struct.pack(">3I", *images.shape)
    (root / "idx.gz").write_bytes(gzip.compress(header + images.tobytes()))
    with tarfile.open(root / "tar", "w") as shard:
        for file in files:
            shard.add(file, file.name)
    pa.parquet.write_table(pa.table({"image": [file.read_bytes() for file in files]}), root / "parquet")
    (root / "list.csv").write_text("path\n" + "".join(f"folder/{file.name}\n" for file in files))
    (root / "stdin").write_text("".join(f"{file}\n" for file in files))
    return root


def named(inputs: Path, source: str) -> tuple[str, Path | None]:
    """The command's argument, and the file for its standard input."""
    if source == "stdin":
        return "-", inputs / "stdin"
    name = {"npy": "npy.npy", "npz": "npz.npz", "csv": "list.csv"}.get(source, source)
    return str(inputs / name), None


def start(bundle: Bundle, inputs: Path, source: str, out: Path, *options: str) -> subprocess.Popen[str]:
    argument, stdin = named(inputs, source)
    command = [sys.executable, "-m", "onward", "predict", bundle.path, argument, "--out", out, "--logits"]
    command += ["--batch-size", "4", "--commit-every", "0", *options]
    with (stdin or Path(os.devnull)).open() as listed:
        return subprocess.Popen(
            [*map(str, command)],
            cwd=ROOT,
            stdin=listed,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def finish(process: subprocess.Popen[str]) -> None:
    _, said = process.communicate(timeout=120)
    assert process.returncode in (0, 1), said
    assert "Traceback" not in said


def kill_at_random(process: subprocess.Popen[str], out: Path, taken_s: float, generator: random.Random) -> None:
    """At a random moment after the start or, equally often, after the first commit."""
    if generator.random() < 0.5:
        journal = out.with_name(f".{out.name}.journal")
        while process.poll() is None and not journal.exists():
            time.sleep(0.002)
        patience_s = generator.uniform(0, 0.3) * taken_s
    else:
        patience_s = generator.uniform(0.1, 1.1) * taken_s
    try:
        process.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def content(out: Path) -> object:
    """The bytes, or the rows of a Parquet file."""
    return pa.parquet.read_table(out) if out.suffix == ".parquet" else out.read_bytes()


def test_killed_at_random_moments_every_input_has_one_row(shared_bundle: Bundle, inputs: Path, tmp_path: Path) -> None:
    generator = random.Random(int(os.environ.get("ONWARD_SEED", "0")))
    pairs = itertools.cycle(zip(itertools.cycle(SOURCES), (*SINKS, *SINKS[1:], SINKS[0], *SINKS[2:], *SINKS[:2])))
    num_kills = num_resumed = 0
    for number, (source, sink) in enumerate(pairs):
        if num_kills >= NUM_KILLS and num_resumed > NUM_KILLS / 10:
            break
        assert number < 10 * NUM_KILLS, "hardly a kill met a run that had committed something"
        whole, out = tmp_path / f"{number}" / f"whole.{sink}", tmp_path / f"{number}" / f"rows.{sink}"
        began = time.monotonic()
        finish(start(shared_bundle, inputs, source, whole))
        taken_s = time.monotonic() - began
        for _ in range(KILLS_A_RUN):
            process = start(shared_bundle, inputs, source, out, "--resume")
            kill_at_random(process, out, taken_s, generator)
            if process.returncode != -signal.SIGKILL:
                break
            num_kills += 1
            num_resumed += out.with_name(f".{out.name}.journal").exists()
        finish(start(shared_bundle, inputs, source, out, "--resume"))
        assert content(out) == content(whole), f"{source} to {sink}"
        errors = [errors_path(path).read_bytes() if errors_path(path).exists() else b"" for path in (out, whole)]
        assert errors[0] == errors[1]
        assert {path.name for path in out.parent.iterdir()} <= {
            path.name for item in (out, whole) for path in (item, errors_path(item))
        }
    print(f"{num_kills} kills, {num_resumed} of them after a commit")
