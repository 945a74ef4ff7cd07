"""An export killed at any moment, begun twice or on a full disk: the old or the new bundle, and nothing beside it.

The command runs in a process of its own; nothing in it is replaced. `make soak` asks for more kills.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from onward.bundle import Bundle
from onward.locks import sole_writer
from tests.forks import CAN_FORK, Fork
from tests.small_disk import small_disk

pytestmark = [pytest.mark.long, pytest.mark.skipif(not CAN_FORK, reason="this system has no forks")]
#: `make soak` asks for more.
NUM_KILLS = int(os.environ.get("ONWARD_EXPORT_KILLS", "2"))
PAGE_BYTES = 4096
OLD, NEW = "old licence", "new licence"


def start(checkpoint: Path, out: Path, licence: str = NEW) -> Fork:
    return Fork(
        "onward",
        ["export", str(checkpoint), "--out", str(out), "--formats", "onnx", "--licence", licence],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def finish(process: Fork) -> str:
    with process:
        _, said = process.communicate(timeout=300)
    assert "Traceback" not in said
    return f"{process.returncode}: {said}"


def check(out: Path, *licences: str) -> str:
    """The bundle is whole, and one of these."""
    bundle = Bundle.open(out)
    bundle.check()
    found = str(bundle.provenance["licence"])
    assert found in licences
    return found


@pytest.fixture(scope="module")
def old(checkpoint_path: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A bundle to replace, and the seconds that its export took."""
    out = tmp_path_factory.mktemp("old") / "model"
    with Fork("onward", ["--version"], env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        process.communicate(timeout=300)  # what forks has imported PyTorch, then
    began = time.monotonic()
    assert finish(start(checkpoint_path, out, OLD)).startswith("0:")
    return out, time.monotonic() - began


def test_an_export_killed_at_random_moments_leaves_the_old_or_the_new_bundle(
    old: tuple[Path, float], checkpoint_path: Path, tmp_path: Path
) -> None:
    out, chance, num_new = tmp_path / "model", random.Random(int(os.environ.get("ONWARD_SEED", "0"))), 0
    for _ in range(NUM_KILLS):
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(old[0], out)
        with start(checkpoint_path, out) as process:
            try:
                # the last tenth, in which the folder is replaced, as often as all the time before it
                share = chance.uniform(0, 0.9) if chance.random() < 0.5 else chance.uniform(0.9, 1.05)
                process.communicate(timeout=share * old[1])
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                process.communicate(timeout=60)
        num_new += check(out, OLD, NEW) == NEW
    assert finish(start(checkpoint_path, out)).startswith("0:")
    check(out, NEW)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]  # this export removed what the killed ones left
    print(f"{NUM_KILLS} kills, {num_new} of them after the new bundle was in place")


def test_a_second_export_at_the_same_folder_ends_with_a_sentence(
    old: tuple[Path, float], checkpoint_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    shutil.copytree(old[0], out)
    with sole_writer(out):  # as the first one does
        said = finish(start(checkpoint_path, out))
    assert said.startswith("2:")
    assert f"another run is writing {out}: wait for it, or choose another --out." in said
    check(out, OLD)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.fixture
def disk(old: tuple[Path, float], tmp_path: Path) -> Iterator[Path]:
    """A file system with room for one and a half bundles."""
    size_bytes = sum(-(-path.stat().st_size // PAGE_BYTES) * PAGE_BYTES for path in old[0].rglob("*") if path.is_file())
    with small_disk(tmp_path / "disk", size_bytes * 3 // 2) as place:
        yield place


def test_an_export_to_a_full_disk_ends_with_a_sentence(
    old: tuple[Path, float], checkpoint_path: Path, disk: Path
) -> None:
    out = disk / "model"
    shutil.copytree(old[0], out)
    said = finish(start(checkpoint_path, out))
    assert said.startswith("2:")
    assert f"onward: {out} could not be written: no space is left on the disk." in said
    check(out, OLD)
    assert [path.name for path in disk.iterdir()] == ["model"]
