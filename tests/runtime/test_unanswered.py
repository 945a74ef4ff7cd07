"""Inputs for which a model gives NaN or infinity: counted, listed, and never a label."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from PIL import Image

import onward
from onward.bundle import Bundle
from onward.embedding import embed
from onward.errors import BadInput, NoAnswer
from onward.prediction import predict_batch
from onward.signature import Signature
from onward.sources import Pixels
from onward.tasks import task_of
from tests.bundles import UNDEFINED, path_of

Here = Callable[..., subprocess.CompletedProcess[str]]
REASON = "the model's outputs are NaN or infinite"
#: Of five images, the second is a text and the third is undefined.
UNREADABLE, UNANSWERED = "1.png", "2.png"


def draw(index: int) -> np.ndarray:
    image = np.random.default_rng(index).integers(0, 256, (8, 8), np.uint8)
    if index == 2:
        image[0, :3] = UNDEFINED
    return image


@pytest.fixture(scope="module")
def bundle_path() -> Path:
    return path_of("undefined")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("down") / "down"
    folder.mkdir()
    for index in range(5):
        Image.fromarray(draw(index)).save(folder / f"{index}.png")
    (folder / UNREADABLE).write_text("text")
    return folder


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".npy", ".parquet"])
def test_an_output_that_is_no_number_is_an_error_row_and_no_label(
    suffix: str, bundle_path: Path, folder: Path, here: Here, tmp_path: Path
) -> None:
    out = tmp_path / f"out{suffix}"
    done = here("predict", bundle_path, folder, "--out", out, "--logits", "--json")
    assert done.returncode == 1
    document = json.loads(done.stdout)
    assert {key: value for key, value in document.items() if key.startswith("num_")} == {
        "num_inputs": 5,
        "num_predicted": 3,
        "num_failures": 2,
        "num_unreadable": 1,
        "num_unanswered": 1,
        "num_16_bit": 0,
        "num_resumed": 0,
        "num_labelled": 3,
        "num_correct": document["num_correct"],
    }
    errors = [json.loads(line) for line in Path(f"{out}.errors.jsonl").read_text().splitlines()]
    assert [Path(error["input"]).name for error in errors] == [UNREADABLE, UNANSWERED]
    assert (errors[1]["stage"], errors[1]["reason"]) == ("infer", REASON)
    assert names_in(out) == ["0.png", "3.png", "4.png"]


def names_in(out: Path) -> list[str]:
    """The inputs with a row; every number in it is one."""
    match out.suffix:
        case ".csv":
            rows = list(csv.DictReader(out.read_text().splitlines()))
        case ".jsonl":
            rows = [json.loads(line, parse_constant=pytest.fail) for line in out.read_text().splitlines()]
        case ".parquet":
            rows = pyarrow.parquet.read_table(out).to_pylist()
        case _:
            finite = np.isfinite(np.load(out)).all(1)
            assert np.isnan(np.load(out)[~finite]).all()
            return [f"{index}.png" for index in np.flatnonzero(finite)]
    assert all(row["label"] in ("down", "up") and 0 <= float(row["probability"]) <= 1 for row in rows)
    return [Path(row["input"]).name for row in rows]


def test_the_summary_counts_them_in_a_line_of_their_own(
    bundle_path: Path, folder: Path, here: Here, tmp_path: Path
) -> None:
    done = here("predict", bundle_path, folder, "--out", tmp_path / "out.csv")
    lines = done.stderr.replace("\n ", " ")
    assert "1 could not be read, listed in" in lines
    assert f"1 without an answer, because {REASON}, listed in" in lines
    assert "2.png" in lines.split("without an answer")[1]


def test_a_run_may_stop_at_the_first(bundle_path: Path, folder: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"2.png: the model's outputs are NaN"):
        onward.predict(bundle_path, [folder / "0.png", folder / UNANSWERED], tmp_path / "out.csv", on_error="fail")


def test_a_classifier_refuses_and_names_the_places(bundle_path: Path) -> None:
    images = np.stack([draw(index) for index in (2, 0, 2)])[..., None]
    with (
        onward.load(bundle_path) as classifier,
        pytest.raises(NoAnswer, match=r"2 of 3 inputs.* inputs 0, 2 ") as error,
    ):
        classifier(images)
    assert error.value.places == (0, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_batch_of_arrays_keeps_the_others_in_their_places(value: float) -> None:
    def run(feed: Any) -> dict[str, Any]:
        outputs = {"logits": np.ones((4, 2), np.float32), "probabilities": np.full((4, 2), 0.5, np.float32)}
        outputs["logits"][1, 0] = value
        return outputs

    images = Pixels("a", np.zeros((4, 8, 8, 1), np.uint8), labels=("down",) * 4)
    result = predict_batch(run, Signature(8, 8, 1, (0.0,), (1.0,), ("down", "up")), images)
    assert result.rows.places is not None
    assert result.rows.places.tolist() == [0, 2, 3]
    assert [failure.input for failure in result.failures] == ["a[1]"]
    counts = result.counts
    assert (counts.num_predicted, counts.num_labelled, counts.num_unanswered) == (3, 3, 1)


def test_an_output_that_is_no_number_is_never_correct() -> None:
    task = task_of(Signature(8, 8, 1, (0.0,), (1.0,), ("down", "up")))
    outputs = {"logits": np.zeros((2, 2), np.float32), "probabilities": np.array([[np.nan, 0], [1, 0]], np.float32)}
    assert task.count_correct(outputs, np.array([0, 0])) == 1


def test_a_benchmark_counts_them(bundle_path: Path, folder: Path, here: Here) -> None:
    options = ("--backends", "onnxruntime", "--batch-sizes", "1", "--process-runs", "1", "--rounds", "1", "--json")
    done = here("bench", bundle_path, "--input", folder, *options)
    (row,) = json.loads(done.stdout)["rows"]
    assert row["num_unanswered"] == 1


def test_the_python_app_gives_no_label(bundle_path: Path, folder: Path, tmp_path: Path) -> None:
    embed(Bundle.open(bundle_path), "python", tmp_path / "app")
    images = [folder / "0.png", folder / UNANSWERED]
    command = [sys.executable, tmp_path / "app" / "classifier.py", *images]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == f"{images[1]}: no answer, because {REASON}.\n"
    assert str(images[0]) in done.stdout
    assert UNANSWERED not in done.stdout
