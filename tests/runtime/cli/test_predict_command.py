"""`onward predict` as a person or a script uses it."""

from __future__ import annotations

import csv
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from onward.bundle import Bundle
from tests.needs import needs_placement

ROOT = Path(__file__).parents[3]
Run = Callable[..., subprocess.CompletedProcess[str]]


def command(bundle: Bundle, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "onward", "predict", *map(str, (bundle.path, *arguments))]


@pytest.fixture
def run(shared_bundle: Bundle, here: Run) -> Run:
    """The command in this process; in a new one where something goes to its standard input."""

    def run(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        if not stdin:
            return here("predict", shared_bundle.path, *arguments)
        line = command(shared_bundle, *arguments)
        return subprocess.run(line, cwd=ROOT, input=stdin, capture_output=True, text=True, check=False)

    return run


def start_until_first_commit(folder: Path, line: list[str]) -> subprocess.Popen[bytes]:
    """Start a long run to `rows.csv`; once its journal holds the request and a commit, stop it and return.

    A stopped run cannot end before the next signal. One that ended before it was stopped is started again.
    """
    journal = folder / ".rows.csv.journal"
    for _ in range(10):
        process = subprocess.Popen(line, cwd=ROOT, stderr=subprocess.PIPE)
        while process.poll() is None and not has_commit(journal):
            time.sleep(0.01)
        process.send_signal(signal.SIGSTOP)
        if process.poll() is None and has_commit(journal):
            return process
        process.send_signal(signal.SIGCONT)
        _, said = process.communicate()
        assert process.returncode == 0, said
        (folder / "rows.csv").unlink()
    pytest.fail("each run ended before it was interrupted")


def has_commit(journal: Path) -> bool:
    """Whether it holds the request and a commit; it is deleted at the run's end."""
    try:
        return journal.read_bytes().count(b"\n") >= 2
    except FileNotFoundError:
        return False


@pytest.fixture
def photos(pixels: NDArray[np.uint8], tmp_path: Path) -> Path:
    """Three images, and one file that is not an image."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(pixels[index, ..., 0]).save(folder / f"{index}.png")
    (folder / "bad.png").write_text("no image")
    return folder


def test_paths_on_standard_input_are_read(run: Run, photos: Path, tmp_path: Path) -> None:
    names = [str(path) for path in sorted(photos.iterdir())]
    for end in ("\n", "\0"):
        result = run("-", "--out", "-", "--quiet", stdin=end.join(names))
        assert [json.loads(line)["input"] for line in result.stdout.splitlines()] == names[:3]
        assert result.returncode == 1
        assert result.stderr == f"{names[3]}: not an image: Pillow recognises no format in its content\n"


def test_the_summary_is_printed_once_on_standard_error(run: Run, photos: Path, tmp_path: Path) -> None:
    result = run(photos, "--out", tmp_path / "rows.csv")
    assert [line.split()[:3] for line in result.stdout.splitlines()] == [
        ["next:", "onward", "bench"],
        ["onward", "embed", str(result.args[2])],
    ]
    first, *others = result.stderr.splitlines()
    assert first.startswith("3 images in ")
    assert f"1 could not be read, listed in {tmp_path / 'rows.csv.errors.jsonl'}:" in others
    quiet = run(photos, "--out", tmp_path / "rows.csv", "--quiet", "--overwrite")
    assert (quiet.stdout, quiet.stderr, quiet.returncode) == ("", "", 1)


def test_json_holds_all_figures_and_nothing_else_is_printed(run: Run, photos: Path, tmp_path: Path) -> None:
    result = run(photos, "--out", tmp_path / "rows.parquet", "--json", "--batch-size", 2, "--streams", 1)
    document = json.loads(result.stdout)
    assert result.stderr == ""
    assert (document["num_inputs"], document["num_predicted"], document["num_failures"]) == (4, 3, 1)
    assert document["failures"][0]["stage"] == "decode"
    assert document["plan"]["batch_size"] == 2
    assert document["plan"]["streams"] == 1
    assert document["placement"]["providers"]["CPUExecutionProvider"]["share"] == 1
    assert set(document["shares"]) == {"read", "decode", "resize", "infer", "write", "wait"}


def test_on_error_fail_stops_at_the_first_bad_input(run: Run, photos: Path, tmp_path: Path) -> None:
    result = run(photos, "--out", tmp_path / "rows.csv", "--on-error", "fail")
    assert result.returncode == 1
    assert result.stderr == f"onward: {photos / 'bad.png'}: not an image: Pillow recognises no format in its content\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["photos"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--batch-size", "many"], "--batch-size is 'many', expected a whole number of at least 1, or auto"),
        (["--streams", "0"], "--streams is '0'"),
        (["--top-k", "11"], "expected 1 to 10, the number of classes"),
        (["--on-error", "ignore"], "expected list or fail"),
        (["--out", "rows.txt"], "expected .csv, .jsonl, .parquet or .npy"),
        (["--out", "-", "--json"], "both write to standard output"),
        (["--out", "-", "--resume"], "`--out -` streams to standard output"),
        (["--provider", "cpu", "--device-id", "1"], "device"),
        pytest.param(
            ["--provider", "AzureExecutionProvider,cpu", "--min-placement", "0.5"], "took", marks=needs_placement
        ),
        (["--provider-option", "nonsense"], "nonsense"),
    ],
)
def test_wrong_usage_is_answered_in_a_sentence(run: Run, photos: Path, options: list[str], words: str) -> None:
    result = run(photos, *options)
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert words in result.stderr
    assert len([line for line in result.stderr.splitlines() if line.startswith("onward: ")]) == 1


@needs_placement
def test_a_requested_fallback_is_reported(run: Run, photos: Path, tmp_path: Path) -> None:
    options = ("--provider", "AzureExecutionProvider,cpu", "--json")
    placement = json.loads(run(photos, "--out", tmp_path / "rows.csv", *options).stdout)["placement"]
    assert placement["providers"]["CPUExecutionProvider"]["share"] == 1


def test_a_reader_that_closes_standard_output_ends_the_run(shared_bundle: Bundle, digits: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", digits.train.images)
    line = command(shared_bundle, tmp_path / "x.npy", "--out", "-", "--batch-size", 4)
    with subprocess.Popen(line, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert json.loads(process.stdout.readline())["input"] == f"{tmp_path / 'x.npy'}[0]"
        process.stdout.close()
        assert "Traceback" not in process.stderr.read()
        assert process.wait(300) == 0


def test_ctrl_c_keeps_what_is_done_and_resume_goes_on(
    shared_bundle: Bundle, digits: Any, run: Run, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.tile(digits.train.images, (40, 1, 1, 1)))
    out = tmp_path / "rows.csv"
    options = ("--out", out, "--batch-size", 1, "--commit-every", 0.01)
    process = start_until_first_commit(tmp_path, command(shared_bundle, tmp_path / "x.npy", *options))
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 130
    assert b"continue with the same command and --resume" in said
    assert not out.exists()
    forgotten = run(tmp_path / "x.npy", "--out", out)
    assert forgotten.returncode == 2
    assert "continue it with --resume, or start over with --no-resume" in forgotten.stderr
    resumed = run(tmp_path / "x.npy", "--out", out, "--resume")
    assert resumed.returncode == 0
    assert "inputs were already done)" in resumed.stderr
    run(tmp_path / "x.npy", "--out", tmp_path / "whole.csv")
    assert out.read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_a_run_is_not_resumed_with_a_different_request(
    shared_bundle: Bundle, digits: Any, run: Run, tmp_path: Path
) -> None:
    np.save(tmp_path / "x.npy", np.tile(digits.train.images, (40, 1, 1, 1)))
    options = ("--out", tmp_path / "rows.csv", "--batch-size", 1, "--commit-every", 0.01)
    process = start_until_first_commit(tmp_path, command(shared_bundle, tmp_path / "x.npy", *options))
    process.kill()
    process.communicate()
    result = run(tmp_path / "x.npy", "--out", tmp_path / "rows.csv", "--resume", "--top-k", 3)
    assert result.returncode == 2
    assert "has top_k 1, but 3 is asked for" in result.stderr


def test_on_a_terminal_there_is_a_bar_with_rate_and_errors(shared_bundle: Bundle, photos: Path, tmp_path: Path) -> None:
    parent, child = pty.openpty()
    line = command(shared_bundle, photos, "--out", tmp_path / "rows.csv")
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "120"}
    process = subprocess.Popen(line, cwd=ROOT, stderr=child, env=environment)
    os.close(child)
    seen = b""
    try:
        while piece := os.read(parent, 4096):
            seen += piece
    except OSError:  # the terminal closes with the process
        pass
    assert process.wait(300) == 1
    assert b"predict" in seen
    assert b"images/s" in seen
    assert b"1 unreadable" in seen


def test_labelled_inputs_end_in_an_accuracy(run: Run, digits: Any, tmp_path: Path) -> None:
    for index in range(20):
        folder = tmp_path / "labelled" / digits.signature.labels[digits.test.targets[index]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.test.images[index, ..., 0]).save(folder / f"{index}.png")
    result = run(tmp_path / "labelled", "--out", tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as stream:
        correct = sum(Path(row["input"]).parent.name == row["label"] for row in csv.DictReader(stream))
    assert f"accuracy: {correct / 20:.2%} of the 20 images with a label" in result.stderr


def test_16_bits_and_files_that_are_left_alone_are_counted(run: Run, tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    levels = np.random.default_rng(0).integers(0, 65536, (8, 8), np.uint16)
    Image.fromarray(levels).save(photos / "deep.png")
    Image.fromarray((levels >> 8).astype(np.uint8)).save(photos / "flat.png")
    Image.fromarray(levels.astype(np.float32)).save(photos / "float.tif")
    (photos / "notes.txt").write_text("left alone")
    (photos / "mask.HEIC2").write_text("left alone")
    result = run(photos, "--out", tmp_path / "rows.csv")
    assert result.returncode == 1
    assert "  16 bits: of 1 images the higher 8 bits of each value were kept\n" in result.stderr
    assert "  left alone: 1 .heic2, 1 .txt\n" in result.stderr
    assert "no stated black and white: convert it to 8 or 16 bits" in result.stderr
    deep, flat = (line.split(",", 1)[1] for line in (tmp_path / "rows.csv").read_text().splitlines()[1:])
    assert deep == flat
    document = json.loads(run(photos, "--out", tmp_path / "again.csv", "--json").stdout)
    assert (document["num_16_bit"], document["num_failures"]) == (1, 1)
    assert document["left_alone"] == {".heic2": 1, ".txt": 1}


def test_one_image_is_answered_on_standard_output_and_no_file_is_written(
    run: Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    first, damaged = sorted(photos.iterdir())[0], sorted(photos.iterdir())[3]
    result = run(first)
    assert (result.returncode, result.stderr) == (0, "")
    header, _, *rows = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert header == ["label", "probability"]
    shares = [float(share.rstrip("%")) for _, share in rows]
    assert len(rows) == 5
    assert shares == sorted(shares, reverse=True)
    assert json.loads(run(first, "--out", "-").stdout)["label"] == rows[0][0]
    assert run(first, "--top-k", 1).stdout.count("%") == 1
    assert "expected 1 to 10" in run(first, "--top-k", 11).stderr
    refused = run(damaged)
    assert (refused.returncode, "not an image" in refused.stderr) == (1, True)
    assert not list(tmp_path.glob("predictions.csv*"))


def test_the_onnx_file_alone_predicts_as_its_bundle(
    run: Run, here: Run, shared_bundle: Bundle, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "alone.onnx").write_bytes((shared_bundle.path / "model.onnx").read_bytes())
    alone = here("predict", tmp_path / "alone.onnx", photos, "--out", "-", "--quiet")
    assert alone.stdout == run(photos, "--out", "-", "--quiet").stdout
    assert len(alone.stdout.splitlines()) == 3


def test_an_onnx_file_of_another_program_has_no_labels(here: Run, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "foreign.onnx").write_bytes(b"\x08\x0a\x12\x01x\x3a\x02\x12\x00\x42\x02\x10\x12")
    result = here("predict", tmp_path / "foreign.onnx", photos)
    assert (result.returncode, "has no signature, because Onward did not write it" in result.stderr) == (2, True)
