"""An export killed at any moment, begun twice or on a full disk: the old or the new bundle, and nothing beside it.

The command runs in a process of its own; nothing in it is replaced. `make kills` kills more.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.kills.export import NEW, OLD, kill_export, start_export
from onward.bundle import Bundle
from tests.forks import CAN_FORK, Fork
from tests.small_disk import small_disk

pytestmark = [pytest.mark.long, pytest.mark.skipif(not CAN_FORK, reason="this system has no forks")]
NUM_KILLS = 1
PAGE_BYTES = 4096


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
def old(checkpoint_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle to replace."""
    out = tmp_path_factory.mktemp("old") / "model"
    assert finish(start_export(checkpoint_path, out, OLD)).startswith("0:")
    return out


def test_an_export_killed_at_random_moments_leaves_the_old_or_the_new_bundle(
    checkpoint_path: Path, tmp_path: Path
) -> None:
    tally = kill_export(tmp_path, random.Random(0), NUM_KILLS, checkpoint_path)
    assert (tally.num_kills, tally.broken) == (NUM_KILLS, [])


def test_of_two_exports_at_one_folder_one_ends_with_a_sentence(
    old: Path, checkpoint_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "model"
    shutil.copytree(old, out)
    with start_export(checkpoint_path, out, NEW, "onward twice") as both:
        printed, said = both.communicate(timeout=300)
    assert sorted(json.loads(printed.splitlines()[-1])) == [0, 2]
    assert said.count(f"another run is writing {out}: wait for it, or choose another --out.") == 1
    assert "Traceback" not in said
    check(out, NEW)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.fixture
def disk(old: Path, tmp_path: Path) -> Iterator[Path]:
    """A file system with room for one and a half bundles."""
    size_bytes = sum(-(-path.stat().st_size // PAGE_BYTES) * PAGE_BYTES for path in old.rglob("*") if path.is_file())
    with small_disk(tmp_path / "disk", size_bytes * 3 // 2) as place:
        yield place


def test_an_export_to_a_full_disk_ends_with_a_sentence(old: Path, checkpoint_path: Path, disk: Path) -> None:
    out = disk / "model"
    shutil.copytree(old, out)
    said = finish(start_export(checkpoint_path, out, NEW))
    assert said.startswith("2:")
    assert f"onward: {out} could not be written: no space is left on the disk." in said
    check(out, OLD)
    assert [path.name for path in disk.iterdir()] == ["model"]
