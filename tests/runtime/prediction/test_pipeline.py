from __future__ import annotations

import csv
import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from onward.backends import open_artifact
from onward.backends.providers import available_providers
from onward.bundle import Bundle
from onward.errors import BadInput, DataError, UsageError
from onward.prediction import Engine, PredictOptions, Summary, open_engine, predict
from onward.prediction.output import errors_path
from onward.sources import Block, Images, Item, Pixels, Source, open_sources
from onward.tasks.classification import LOGITS, PROBABILITIES
from tests.needs import PT2, needs_torch

UNREADABLE = (0, 5, 6, 7, 11)
NUM_FILES = 14
#: Rows have six decimals: half of the last one, plus rounding to float32.
ROUNDING = 0.51e-6
CUDA = "CUDAExecutionProvider"


@pytest.fixture(scope="module")
def engine(shared_bundle: Bundle) -> Engine:
    return open_engine(shared_bundle)


@pytest.fixture(scope="module")
def mixed(digits: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real digits `00.png` …; those of `UNREADABLE` are text."""
    folder = tmp_path_factory.mktemp("mixed")
    for index in range(NUM_FILES):
        path = folder / f"{index:02}.png"
        if index in UNREADABLE:
            path.write_text("this is text")
        else:
            Image.fromarray(digits.test.images[index, ..., 0]).save(path)
    return folder


def readable() -> list[int]:
    return [index for index in range(NUM_FILES) if index not in UNREADABLE]


def rows_of(out: Path) -> list[dict[str, str]]:
    with out.open(newline="") as stream:
        return list(csv.DictReader(stream))


def failing_after(source: Source, count: int) -> Source:
    """A source that fails after `count` inputs."""

    def blocks() -> Iterator[Block]:
        left = count
        for block in source.blocks():
            yield block[:left]
            left -= len(block)
            if left <= 0:
                raise DataError("the share went away")

    return Source(blocks)


@settings(max_examples=16, deadline=None)
@given(batch_size=st.integers(1, NUM_FILES + 1), streams=st.integers(1, 3), suffix=st.sampled_from(["csv", "jsonl"]))
def test_the_batch_size_and_the_streams_change_no_byte(
    shared_bundle: Bundle, engine: Engine, mixed: Path, batch_size: int, streams: int, suffix: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        outs = [Path(folder, f"{index}.{suffix}") for index in range(2)]
        options = PredictOptions(batch_size=batch_size, streams=streams)
        predict(engine, open_sources([mixed], engine.signature), outs[0])
        predict(open_engine(shared_bundle, options), open_sources([mixed], engine.signature), outs[1], options)
        assert outs[0].read_bytes() == outs[1].read_bytes()
        assert errors_path(outs[0]).read_bytes() == errors_path(outs[1]).read_bytes()


def test_every_input_has_one_row_or_one_line_of_errors_in_order(
    shared_bundle: Bundle, engine: Engine, mixed: Path, digits: Any, tmp_path: Path
) -> None:
    out = tmp_path / "rows.csv"
    summary = predict(engine, open_sources([mixed], engine.signature), out)
    backend = open_artifact(shared_bundle, shared_bundle.artifact("onnx"))
    expected = backend.run(digits.test.images[readable()])[PROBABILITIES]
    rows = rows_of(out)
    assert [row["input"] for row in rows] == [str(mixed / f"{index:02}.png") for index in readable()]
    assert [int(row["index"]) for row in rows] == expected.argmax(1).tolist()
    assert [row["label"] for row in rows] == [engine.signature.labels[index] for index in expected.argmax(1)]
    found = np.array([float(row["probability"]) for row in rows])
    np.testing.assert_allclose(found, expected.max(1), rtol=0, atol=ROUNDING)
    errors = [json.loads(line) for line in errors_path(out).read_text().splitlines()]
    assert [error["input"] for error in errors] == [str(mixed / f"{index:02}.png") for index in UNREADABLE]
    assert {error["stage"] for error in errors} == {"decode"}
    assert "not an image" in errors[0]["reason"]
    counts = summary.counts
    assert (counts.num_inputs, counts.num_predicted, counts.num_failures) == (NUM_FILES, len(rows), len(UNREADABLE))


def test_the_summary_says_where_the_time_went(engine: Engine, mixed: Path, tmp_path: Path) -> None:
    summary = predict(engine, open_sources([mixed], engine.signature), tmp_path / "rows.csv")
    shares = summary.seconds.shares
    assert set(shares) == {"read", "decode", "resize", "infer", "write", "wait"}
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["infer"] > 0
    document = json.loads(json.dumps(summary.to_json()))
    assert document["num_failures"] == len(UNREADABLE)
    assert document["plan"] == {"batch_size": 256, "streams": engine.plan.streams, "threads": 1}
    assert document["images_per_s"] == pytest.approx(NUM_FILES / summary.elapsed_s)
    assert document["backend"] == summary.describe_backend() == "onnx (CPU)"
    assert (document["artifact"], document["precision"]) == ("onnx", "float32")


def test_progress_adds_up_to_all_inputs(shared_bundle: Bundle, mixed: Path, tmp_path: Path) -> None:
    engine = open_engine(shared_bundle, PredictOptions(batch_size=4))
    steps: list[int] = []
    source = open_sources([mixed], engine.signature)
    predict(engine, source, tmp_path / "a.csv", on_progress=lambda count, summary: steps.append(count))
    assert steps == [4, 4, 4, 2]


def test_a_run_without_time_has_no_throughput() -> None:
    assert Summary().images_per_s == 0


def test_all_logits_and_the_top_k_are_written(
    shared_bundle: Bundle, engine: Engine, pixels: NDArray[np.uint8], tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", pixels)
    source = open_sources([tmp_path / "x.npy"], engine.signature)
    backend = open_artifact(shared_bundle, shared_bundle.artifact("onnx"))
    expected = backend.run(pixels)
    options = PredictOptions(top_k=3, logits=True)
    for suffix in ("csv", "jsonl", "parquet", "npy"):
        predict(engine, source, tmp_path / f"rows.{suffix}", options)
    ranked = np.argsort(-expected[PROBABILITIES], axis=1, kind="stable")[:, :3]
    table = pyarrow.parquet.read_table(tmp_path / "rows.parquet")
    np.testing.assert_array_equal(np.stack(table["logits"].to_pylist()).astype(np.float32), expected[LOGITS])
    np.testing.assert_array_equal(table["index_3"].to_numpy(), ranked[:, 2])
    np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), expected[LOGITS])
    lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert [[place["index"] for place in line["top"]] for line in lines] == ranked.tolist()
    np.testing.assert_allclose([line["logits"] for line in lines], expected[LOGITS], rtol=0, atol=ROUNDING)
    rows = rows_of(tmp_path / "rows.csv")
    assert [int(row["index_2"]) for row in rows] == ranked[:, 1].tolist()
    found = [[float(row[f"logit_{index}"]) for index in range(10)] for row in rows]
    np.testing.assert_allclose(found, expected[LOGITS], rtol=1e-5, atol=0)  # six significant digits


def test_row_i_of_an_array_is_input_i(engine: Engine, mixed: Path, tmp_path: Path) -> None:
    predict(engine, open_sources([mixed], engine.signature), tmp_path / "rows.npy")
    found = np.load(tmp_path / "rows.npy")
    assert found.shape == (NUM_FILES, 10)
    assert np.flatnonzero(np.isnan(found).any(1)).tolist() == list(UNREADABLE)


def test_labelled_folders_give_an_accuracy(engine: Engine, digits: Any, tmp_path: Path) -> None:
    for index, (image, target) in enumerate(zip(digits.test.images, digits.test.targets.tolist(), strict=True)):
        folder = tmp_path / "images" / digits.signature.labels[target]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[..., 0]).save(folder / f"{index:03}.png")
    (tmp_path / "images" / "nobody knows").mkdir()
    Image.fromarray(digits.test.images[0, ..., 0]).save(tmp_path / "images" / "nobody knows" / "x.png")
    summary = predict(engine, open_sources([tmp_path / "images"], engine.signature), tmp_path / "rows.csv")
    assert summary.counts.num_labelled == len(digits.test.targets) == summary.counts.num_predicted - 1
    rows = [row for row in rows_of(tmp_path / "rows.csv") if "nobody" not in row["input"]]
    correct = np.mean([Path(row["input"]).parent.name == row["label"] for row in rows])
    assert summary.counts.accuracy == pytest.approx(correct)
    assert summary.counts.accuracy > 0.8


def test_without_labels_there_is_no_accuracy(engine: Engine, mixed: Path, tmp_path: Path) -> None:
    assert predict(engine, open_sources([mixed], engine.signature), tmp_path / "rows.csv").counts.accuracy is None


def test_on_error_fail_stops_at_the_first_bad_input(engine: Engine, mixed: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"00\.png: not an image"):
        predict(engine, open_sources([mixed], engine.signature), tmp_path / "rows.csv", PredictOptions(on_error="fail"))
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_source_ends_the_run_and_leaves_the_earlier_file(
    engine: Engine, mixed: Path, tmp_path: Path
) -> None:
    out = tmp_path / "rows.csv"
    out.write_text("earlier")
    with pytest.raises(DataError, match="went away"):
        source = failing_after(open_sources([mixed], engine.signature), 9)
        predict(engine, source, out, PredictOptions(resume=False))
    assert out.read_text() == "earlier"


@settings(max_examples=12, deadline=None)
@given(cut=st.integers(1, NUM_FILES), batch_size=st.integers(1, 5), suffix=st.sampled_from(["csv", "jsonl", "npy"]))
def test_resuming_after_any_cut_gives_the_bytes_of_an_uninterrupted_run(
    shared_bundle: Bundle, mixed: Path, cut: int, batch_size: int, suffix: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        whole, out = Path(folder, f"whole.{suffix}"), Path(folder, f"rows.{suffix}")
        options = PredictOptions(batch_size=batch_size, commit_every_s=0)
        engine = open_engine(shared_bundle, options)
        source = open_sources([mixed], engine.signature)
        predict(engine, source, whole, options)
        with pytest.raises(DataError):
            predict(engine, failing_after(source, cut), out, options)
        # another batch size: the two parts of a run need not use the same one
        other = PredictOptions(batch_size=3, resume=True)
        summary = predict(open_engine(shared_bundle, other), source, out, other)
        assert out.read_bytes() == whole.read_bytes()
        assert errors_path(out).read_bytes() == errors_path(whole).read_bytes()
        assert summary.counts.num_inputs == NUM_FILES
        assert summary.num_resumed <= cut
        assert sorted(path.name for path in Path(folder).iterdir()) == sorted(
            name for path in (whole, out) for name in (path.name, errors_path(path).name, f".{path.name}.done")
        )


@pytest.mark.parametrize("other", [{"top_k": 2}, {"logits": True}, {"request": {"inputs": ["elsewhere"]}}])
def test_a_run_is_only_resumed_with_the_same_request(
    shared_bundle: Bundle, mixed: Path, other: dict[str, object], tmp_path: Path
) -> None:
    options = PredictOptions(batch_size=2, commit_every_s=0)
    engine = open_engine(shared_bundle, options)
    with pytest.raises(DataError):
        predict(engine, failing_after(open_sources([mixed], engine.signature), 6), tmp_path / "rows.csv", options)
    with pytest.raises(UsageError, match=f"has {next(iter(other)).replace('request', 'inputs')} .* is asked for"):
        different = PredictOptions(resume=True, **other)  # type: ignore[arg-type]
        predict(engine, open_sources([mixed], engine.signature), tmp_path / "rows.csv", different)


@pytest.mark.parametrize("change", ["touched", "removed", "added", "renamed"])
def test_changed_inputs_are_detected_on_resume(shared_bundle: Bundle, digits: Any, change: str, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for index in range(8):
        Image.fromarray(digits.test.images[index, ..., 0]).save(images / f"{index}.png")
    options = PredictOptions(batch_size=2, commit_every_s=0)
    engine = open_engine(shared_bundle, options)
    with pytest.raises(DataError, match="went away"):
        predict(engine, failing_after(open_sources([images], engine.signature), 6), tmp_path / "rows.csv", options)
    match change:
        case "touched":
            Image.fromarray(digits.test.images[20, ..., 0]).save(images / "1.png")
        case "removed":
            (images / "1.png").unlink()
        case "added":
            (images / "0a.png").write_bytes((images / "1.png").read_bytes())
        case "renamed":
            (images / "1.png").rename(images / "1a.png")
    said = {"touched": "changed {0}/1.png.", "removed": "removed {0}/1.png.", "added": "added {0}/0a.png."}
    expected = said.get(change, "added {0}/1a.png; removed {0}/1.png.").format(images)
    options = PredictOptions(resume=True)
    with pytest.raises(
        DataError, match=f"those of the unfinished run: {re.escape(expected)} --resume-changed computes"
    ):
        predict(engine, open_sources([images], engine.signature), tmp_path / "rows.csv", options)


def watched(source: Source, read: list[str]) -> Source:
    """A source that notes the names of the images that are read."""

    def note(item: Item) -> Any:
        read.append(Path(item.name).name)
        return item.read()

    def blocks() -> Iterator[Block]:
        for block in source.blocks():
            yield (
                block
                if isinstance(block, Pixels)
                else Images([replace(item, read=partial(note, item)) for item in block.items])
            )

    return replace(source, blocks=blocks)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".npy", ".parquet"])
def test_only_the_batches_of_changed_inputs_are_computed_anew(
    shared_bundle: Bundle, digits: Any, suffix: str, tmp_path: Path
) -> None:
    images, out, whole = tmp_path / "images", tmp_path / f"rows{suffix}", tmp_path / f"whole{suffix}"
    images.mkdir()
    for index in range(30):
        Image.fromarray(digits.test.images[index, ..., 0]).save(images / f"{index:02}.png")
    (images / "21.png").write_bytes(b"no image")
    np.save(tmp_path / "x.npy", digits.test.images[:10])
    options = PredictOptions(batch_size=3, commit_every_s=0, num_threads=1)
    engine = open_engine(shared_bundle, options)

    def source() -> Source:
        return open_sources([tmp_path / "x.npy", images], engine.signature)

    with pytest.raises(DataError, match="went away"):
        predict(engine, failing_after(source(), 36), out, options)
    Image.fromarray(digits.test.images[40, ..., 0]).save(images / "03.png")
    (images / "12.png").unlink()
    Image.fromarray(digits.test.images[41, ..., 0]).save(images / "15a.png")
    predict(engine, source(), whole, options)
    read: list[str] = []
    summary = predict(engine, watched(source(), read), out, replace(options, resume="changed"))
    anew = {"02.png", "03.png", "04.png", "11.png", "13.png", "14.png", "15.png", "15a.png", "16.png"}
    assert (
        anew - {"15.png", "16.png"}
        <= set(read)
        <= anew | {f"{index}.png" for index in (*range(11, 20), *range(26, 30))}
    )
    assert summary.num_resumed >= 10 + 30 - len(read)
    if suffix == ".parquet":
        assert pyarrow.parquet.read_table(out).equals(pyarrow.parquet.read_table(whole))
    else:
        assert out.read_bytes() == whole.read_bytes()
    assert errors_path(out).read_text() == errors_path(whole).read_text()
    assert [path.name for path in tmp_path.glob(".*") if path.suffix != ".done"] == []


def test_a_stopped_run_commits_and_can_be_resumed(shared_bundle: Bundle, digits: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", digits.train.images)
    options = PredictOptions(batch_size=8)
    engine = open_engine(shared_bundle, options)
    source = open_sources([tmp_path / "x.npy"], engine.signature)
    seen: list[int] = []
    out = tmp_path / "rows.csv"
    summary = predict(
        engine,
        source,
        out,
        options,
        on_progress=lambda count, summary: seen.append(count),
        stop=lambda: len(seen) >= 5,
    )
    assert summary.is_interrupted
    assert 0 < summary.counts.num_inputs < len(digits.train.images)
    assert not out.exists()
    resumed = predict(engine, source, out, PredictOptions(resume=True))
    assert resumed.num_resumed == summary.counts.num_inputs
    predict(engine, source, tmp_path / "whole.csv")
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


@needs_torch
@pytest.mark.parametrize("artifact", ["torchscript", PT2])
def test_pytorchs_own_formats_give_the_same_labels(
    shared_bundle: Bundle, engine: Engine, pixels: NDArray[np.uint8], artifact: str, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", pixels)
    source = open_sources([tmp_path / "x.npy"], engine.signature)
    predict(engine, source, tmp_path / "onnx.csv")
    options = PredictOptions(batch_size=5)
    predict(open_engine(shared_bundle, options, artifact=artifact), source, tmp_path / "torch.csv", options)
    labels = [[row["label"] for row in rows_of(tmp_path / name)] for name in ("onnx.csv", "torch.csv")]
    assert labels[0] == labels[1]


@pytest.mark.parametrize("top_k", [0, 11])
def test_top_k_must_be_within_the_number_of_classes(engine: Engine, mixed: Path, top_k: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected 1 to 10, the number of classes"):
        predict(engine, open_sources([mixed], engine.signature), tmp_path / "x.csv", PredictOptions(top_k=top_k))


@pytest.mark.skipif(CUDA not in available_providers(), reason="this onnxruntime has no CUDA: install onnxruntime-gpu")
@pytest.mark.skipif(not Path("/dev/nvidia0").exists(), reason="this machine has no NVIDIA device")
def test_a_gpu_gives_the_same_labels_and_runs_most_of_the_nodes(
    shared_bundle: Bundle, engine: Engine, digits: Any, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", digits.test.images)
    source = open_sources([tmp_path / "x.npy"], engine.signature)
    predict(engine, source, tmp_path / "cpu.csv")
    summary = predict(open_engine(shared_bundle, provider="cuda"), source, tmp_path / "cuda.csv")
    assert summary.placement is not None
    assert summary.placement.share(CUDA) >= 0.5
    labels = [[row["label"] for row in rows_of(tmp_path / name)] for name in ("cpu.csv", "cuda.csv")]
    assert labels[0] == labels[1]
