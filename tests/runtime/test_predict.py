from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from runtime.backends import Backend, open_artifact
from runtime.bundle import Bundle
from runtime.errors import DataError
from runtime.predict import Summary, predict
from runtime.signature import PROBABILITIES, Signature
from runtime.sinks import open_sink
from runtime.sources import Source, open_sources
from training.data import Dataset

UNREADABLE = (0, 5, 6, 7, 11)
NUM_FILES = 14


class Rows:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.probabilities: list[NDArray[np.float32]] = []

    def write(self, names: Sequence[str], probabilities: NDArray[np.float32]) -> None:
        assert len(names) == len(probabilities) > 0
        self.names += names
        self.probabilities += list(probabilities)


@pytest.fixture(scope="module")
def backend(shared_bundle: Bundle) -> Backend:
    return open_artifact(shared_bundle, shared_bundle.artifact("onnx"))


@pytest.fixture(scope="module")
def mixed_folder(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real digits `00.png` to `13.png`; those of `UNREADABLE` are text."""
    folder = tmp_path_factory.mktemp("mixed")
    for index, image in enumerate(digits.test.images[:NUM_FILES]):
        path = folder / f"{index:02}.png"
        if index in UNREADABLE:
            path.write_text("this is text")
        else:
            Image.fromarray(image[..., 0]).save(path)
    return folder


@pytest.fixture
def source(mixed_folder: Path, shared_bundle: Bundle) -> Source:
    return open_sources([mixed_folder], shared_bundle.signature)


def readable() -> list[int]:
    return [index for index in range(NUM_FILES) if index not in UNREADABLE]


@settings(max_examples=16, deadline=None)
@given(batch_size=st.integers(1, NUM_FILES + 1))
def test_rows_come_in_the_order_of_the_inputs_at_any_batch_size(
    backend: Backend, mixed_folder: Path, shared_bundle: Bundle, digits: Dataset, batch_size: int
) -> None:
    rows = Rows()
    source = open_sources([mixed_folder], shared_bundle.signature)
    summary = predict(backend, source, rows, batch_size=batch_size)
    assert rows.names == [f"{index:02}.png" for index in readable()]
    assert [failure.input for failure in summary.failures] == [f"{index:02}.png" for index in UNREADABLE]
    expected = backend.run(digits.test.images[readable()])[PROBABILITIES]
    # Batches of other sizes round differently: a few units in the last place of 1.
    np.testing.assert_allclose(np.stack(rows.probabilities), expected, rtol=0, atol=32 * np.finfo(np.float32).eps)


def test_the_summary_counts_rows_failures_and_time(backend: Backend, source: Source) -> None:
    summary = predict(backend, source, Rows(), batch_size=4)
    assert summary.num_predicted == NUM_FILES - len(UNREADABLE)
    assert len(summary.failures) == len(UNREADABLE)
    assert 0 < summary.infer_s <= summary.elapsed_s
    document = summary.to_json()
    assert document["num_failures"] == len(UNREADABLE)
    assert document["failures"][0] == {"input": "00.png", "reason": summary.failures[0].reason}
    assert document["images_per_s"] == pytest.approx(summary.num_predicted / summary.elapsed_s)


def test_progress_adds_up_to_all_inputs(backend: Backend, source: Source) -> None:
    steps: list[int] = []
    predict(backend, source, Rows(), batch_size=4, on_progress=steps.append)
    assert steps == [4, 4, 4, 2]
    assert sum(steps) == source.num_inputs


def test_batches_of_failures_only_give_no_rows(backend: Backend, shared_bundle: Bundle, tmp_path: Path) -> None:
    for index in range(3):
        (tmp_path / f"{index}.png").write_text("text")
    rows = Rows()
    summary = predict(backend, open_sources([tmp_path], shared_bundle.signature), rows, batch_size=2)
    assert (summary.num_predicted, len(summary.failures), rows.names) == (0, 3, [])


def test_a_run_without_time_has_no_throughput() -> None:
    assert Summary().images_per_s == 0


def test_the_rows_of_an_array_are_numbered(
    backend: Backend, shared_bundle: Bundle, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    np.save(tmp_path / "digits.npy", pixels)
    rows = Rows()
    source = open_sources([tmp_path / "digits.npy"], shared_bundle.signature)
    assert predict(backend, source, rows, batch_size=7).num_predicted == len(pixels)
    assert rows.names == [f"digits.npy[{index}]" for index in range(len(pixels))]


def test_a_csv_of_a_mixed_folder_holds_the_labels(
    backend: Backend, source: Source, shared_bundle: Bundle, digits: Dataset, tmp_path: Path
) -> None:
    signature: Signature = shared_bundle.signature
    with open_sink(tmp_path / "rows.csv", signature, 1) as sink:
        predict(backend, source, sink, batch_size=4)
    with (tmp_path / "rows.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    expected = backend.run(digits.test.images[readable()])[PROBABILITIES].argmax(1)
    assert [row["input"] for row in rows] == [f"{index:02}.png" for index in readable()]
    assert [row["label"] for row in rows] == [signature.labels[index] for index in expected]


def test_an_error_of_the_source_ends_the_run_and_leaves_the_earlier_file(
    backend: Backend, source: Source, shared_bundle: Bundle, tmp_path: Path
) -> None:
    def broken(batch_size: int):  # type: ignore[no-untyped-def]
        yield from source.batches(batch_size)
        raise DataError("the share went away")

    out = tmp_path / "rows.csv"
    out.write_text("earlier")
    with pytest.raises(DataError, match="went away"), open_sink(out, shared_bundle.signature, 1) as sink:
        predict(backend, Source(NUM_FILES, broken), sink, batch_size=4)
    assert out.read_text() == "earlier"
