"""Shards, and outputs that an earlier run has finished."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import onward
from onward.bundle import Bundle
from onward.errors import UsageError
from onward.prediction import PredictOptions, open_engine
from onward.prediction import predict as run
from onward.prediction.shard import Shard
from onward.sources import Pixels, Source, open_sources

ROOT = Path(__file__).parents[3]
Here = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def photos(digits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Real digits beside and below each other, one of them a text; the current folder is the one that holds them."""
    monkeypatch.chdir(tmp_path)
    for index in range(30):
        path = tmp_path / "photos" / ("", "a", "a b", "a/c", 'quoted, "b"')[index % 5] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.test.images[index, ..., 0]).save(path)
    (tmp_path / "photos" / "a" / "1.png").write_text("text")
    return tmp_path / "photos"


def test_three_shards_put_together_as_the_docs_say_are_the_bytes_of_one_run(photos: Path, here: Here) -> None:
    (bundle,) = [ROOT / "tests" / "runtime" / "bundle" / "bundles" / "format-1"]
    for index in range(3):
        options = ("--shard", f"{index}/3", "--out", f"shard-{index}.csv", "--resume", "--ok-with-errors")
        assert here("predict", bundle, "photos", *options).returncode == 0
    assert here("predict", bundle, "photos", "--out", "whole.csv").returncode == 1
    (code,) = re.findall(r"```python\n(import csv\n.*?)```", (ROOT / "docs" / "predict.md").read_text(), re.DOTALL)
    subprocess.run([sys.executable, "-c", code], check=True)
    assert Path("predictions.csv").read_bytes() == Path("whole.csv").read_bytes()


@given(st.text(), st.integers(1, 9))
def test_every_name_belongs_to_one_shard(name: str, count: int) -> None:
    assert sum(Shard(index, count).has(name) for index in range(count)) == 1


def test_an_image_of_an_array_belongs_to_a_shard_by_its_name() -> None:
    images = np.arange(20, dtype=np.uint8).reshape(20, 1, 1, 1)
    source = Source(lambda: iter([Pixels("x.npy", images, stamp="1", labels=[str(at) for at in range(20)])]))
    items = [item for block in Shard(1, 3).of(source).blocks() for item in block.items]  # type: ignore[union-attr]
    assert [item.name for item in items] == [f"x.npy[{at}]" for at in range(20) if Shard(1, 3).has(f"x.npy[{at}]")]
    for item in items:
        assert f"x.npy[{item.read()[0, 0, 0]}]" == f"x.npy[{item.label}]" == item.name  # type: ignore[call-overload]
        assert item.stamp == "1"


@pytest.mark.parametrize("text", ["3/3", "0/0", "-1/3", "1", "a/b", "1/3/5", "٣/٤"])
def test_no_such_shard(text: str) -> None:
    with pytest.raises(UsageError, match="expected INDEX/COUNT"):
        Shard.parse(text)


def predict(bundle: Bundle, photos: Path, **options: Any) -> Any:
    return onward.predict(bundle, photos, photos.parent / "out.csv", **options)


def test_a_finished_output_is_done_and_not_begun_anew(bundle: Bundle, photos: Path, here: Here) -> None:
    for expected in (False, True, True):
        summary = predict(bundle, photos, resume=True)
        assert summary.was_finished == expected
        assert summary.counts.num_inputs == 30
    before = Path("out.csv").stat().st_mtime_ns
    done = here("predict", bundle.path, photos, "--out", photos.parent / "out.csv", "--resume", "--ok-with-errors")
    assert done.returncode == 0
    assert "is finished: an earlier run completed its 30 inputs" in done.stderr.replace("\n", "")
    assert Path("out.csv").stat().st_mtime_ns == before
    assert not predict(bundle, photos, resume=False).was_finished


def test_a_finished_output_of_something_else_is_begun_anew(bundle: Bundle, photos: Path) -> None:
    assert not predict(bundle, photos, resume=True).was_finished
    assert not predict(bundle, photos, resume=True, top_k=2).was_finished
    assert predict(bundle, photos, resume=True, top_k=2).was_finished
    (photos / "z").mkdir()
    (photos / "z" / "0.png").write_bytes((photos / "0.png").read_bytes())
    assert predict(bundle, photos, resume=True, top_k=2).counts.num_inputs == 31
    (photos / "0.png").touch()
    assert not predict(bundle, photos, resume=True, top_k=2).was_finished
    Path("out.csv").write_text("changed")
    assert not predict(bundle, photos, resume=True, top_k=2).was_finished
    Path("out.csv").unlink()
    assert not predict(bundle, photos, resume=True, top_k=2).was_finished
    assert predict(bundle, photos, resume=True, top_k=2).was_finished


def test_paths_from_a_stream_are_predicted_again(bundle: Bundle, photos: Path) -> None:
    engine = open_engine(bundle)
    for _ in range(2):
        source = open_sources(["-"], engine.signature, stdin=io.BytesIO(b"photos/0.png\n"))
        summary = run(engine, source, photos.parent / "out.csv", PredictOptions(resume=True))
        assert (summary.was_finished, summary.counts.num_predicted) == (False, 1)
