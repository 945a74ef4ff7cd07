"""Resume: a run that was killed, interrupted or out of space ends with the bits of one that never was."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.kills.train import kill_train, state_of
from onward.errors import CheckpointError, UsageError
from onward_training.checkpoint import Checkpoint
from onward_training.data import Dataset
from onward_training.epoch_metrics import Step
from onward_training.loop import train
from onward_training.options import TrainOptions
from onward_training.run_folder import RunFolder
from tests.forks import CAN_FORK, Fork
from tests.small_disk import small_disk

FILES = {"run.pt", "run.last.pt", "run.metrics.jsonl", "run.batch.png", "run.options.toml"}

pytestmark = pytest.mark.long
#: `make kills` asks for more.
NUM_KILLS = 2
OPTIONS = TrainOptions(
    model="cnn",
    arguments={"widths": [4, 8], "num_hidden": 16},
    epochs=3,
    batch_size=100,
    schedule="one-cycle",
    label_smoothing=0.1,
    clip_norm=1.0,
    augment="flip,crop",
)


def same(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two runs came to the same, but for the time they took."""
    return state_of(one) == state_of(other)


@pytest.fixture(scope="module")
def undisturbed(digits: Dataset) -> Checkpoint:
    return train(digits, OPTIONS)


@pytest.mark.parametrize("num_steps", [1, 7, 12, 13, 35])
def test_a_run_stopped_after_any_step_and_gone_on_with_ends_with_the_same_bits(
    num_steps: int, undisturbed: Checkpoint, digits: Dataset, tmp_path: Path
) -> None:
    run_folder = RunFolder(tmp_path / "run.pt")
    told: list[Step] = []
    train(digits, OPTIONS, run_folder=run_folder, on_step=told.append, should_stop=lambda: len(told) == num_steps)
    assert len(told) == num_steps
    torch.rand(7)  # what else draws random numbers in the meantime does not matter
    found = run_folder.find()
    assert found is not None
    resumed = train(digits, OPTIONS, run_folder=run_folder, resume_from=found)
    assert same(resumed, undisturbed)
    assert Checkpoint.load(run_folder.path).weights_digest() == undisturbed.weights_digest()
    assert [json.loads(line)["epoch"] for line in run_folder.metrics_path.read_text().splitlines()] == [1, 2, 3]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_so_does_one_of_every_optimizer_and_schedule_with_patience(
    optimizer: str, digits: Dataset, tmp_path: Path
) -> None:
    options = replace(OPTIONS, optimizer=optimizer, schedule="constant", patience=1, precision="bfloat16")
    run_folder = RunFolder(tmp_path / "run.pt")
    told: list[Step] = []
    train(digits, options, run_folder=run_folder, on_step=told.append, should_stop=lambda: len(told) == 15)
    assert same(train(digits, options, resume_from=run_folder.find()), train(digits, options))


def test_a_finished_run_gone_on_with_does_nothing(digits: Dataset, tmp_path: Path) -> None:
    run_folder = RunFolder(tmp_path / "run.pt")
    first = train(digits, OPTIONS, run_folder=run_folder)
    steps: list[Step] = []
    assert same(
        train(digits, OPTIONS, run_folder=run_folder, resume_from=run_folder.find(), on_step=steps.append), first
    )
    assert not steps


def test_a_run_of_other_options_or_other_data_is_not_gone_on_with(digits: Dataset, tmp_path: Path) -> None:
    run_folder = RunFolder(tmp_path / "run.pt")
    train(digits, OPTIONS, run_folder=run_folder, should_stop=lambda: True)
    with pytest.raises(UsageError, match=r"epochs was 3, now is 5; label smoothing was 0.1, now is 0.0"):
        train(digits, replace(OPTIONS, epochs=5, label_smoothing=0.0), resume_from=run_folder.find())
    fewer = replace(digits, train=digits.train.take(torch.arange(500).numpy()))
    with pytest.raises(UsageError, match="data sha256 was"):
        train(fewer, OPTIONS, resume_from=run_folder.find())


def test_an_unfinished_run_is_not_overwritten_unasked(digits: Dataset, tmp_path: Path) -> None:
    run_folder = RunFolder(tmp_path / "run.pt")
    run_folder.check_free()
    train(digits, OPTIONS, run_folder=run_folder, should_stop=lambda: True)
    with pytest.raises(UsageError, match="an unfinished run of 0 epochs: --resume continues it"):
        run_folder.check_free()
    finished = RunFolder(tmp_path / "finished.pt")
    assert finished.next_free() == finished
    train(digits, OPTIONS, run_folder=finished)
    with pytest.raises(UsageError, match="a finished run of 3 epochs: --resume --epochs 6 goes on with it"):
        finished.check_free()
    assert finished.next_free().path == tmp_path / "finished-2.pt"
    (tmp_path / "finished-2.pt").write_text("")
    assert finished.next_free().path == tmp_path / "finished-3.pt"
    with pytest.raises(UsageError, match=r"finished-2\.pt exists"):
        RunFolder(tmp_path / "finished-2.pt").check_free()


@pytest.mark.parametrize("schedule", ["cosine", "constant", "one-cycle"])
def test_a_finished_run_is_extended(digits: Dataset, tmp_path: Path, schedule: str) -> None:
    few = replace(digits, train=digits.train.take(torch.arange(256).numpy()))
    options = replace(OPTIONS, epochs=2, schedule=schedule)
    run_folder = RunFolder(tmp_path / "run.pt")
    train(few, options, run_folder=run_folder)
    more = replace(options, epochs=4)
    extended = train(few, more, run_folder=run_folder, resume_from=run_folder.find())
    assert [epoch.epoch for epoch in extended.history] == [1, 2, 3, 4]
    rates = [epoch.learning_rate for epoch in train(few, more).history]
    assert [epoch.learning_rate for epoch in extended.history][2:] == pytest.approx(rates[2:], rel=1e-9, abs=1e-12)
    interrupted = train(few, replace(options, epochs=6), run_folder=run_folder, resume_from=run_folder.find())
    assert len(interrupted.history) == 6
    with pytest.raises(UsageError, match="epochs was 6, now is 4"):
        train(few, more, resume_from=run_folder.find())


def test_a_best_epoch_that_is_gone_is_missed(digits: Dataset, tmp_path: Path) -> None:
    run_folder = RunFolder(tmp_path / "run.pt")
    train(digits, OPTIONS, run_folder=run_folder)
    run_folder.path.unlink()
    with pytest.raises(CheckpointError, match=r"run\.pt is missing: it held epoch"):
        run_folder.find()


def arguments(out: Path, *more: str) -> list[str]:
    network = json.dumps({"widths": [4, 8], "num_hidden": 16})
    options = "--data digits --model cnn --epochs 12 --augment crop --schedule one-cycle --save-minutes 0.001"
    return ["train", *options.split(), "--model-args", network, "--out", str(out), *more]


def start(out: Path, *more: str) -> Fork | subprocess.Popen[str]:
    """`onward train` in a process of its own; where there are forks, it has imported PyTorch before it begins."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if CAN_FORK:
        return Fork("onward", arguments(out, *more), env=environment)
    line = [sys.executable, "-m", "onward", *arguments(out, *more)]
    return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(out: Path, *more: str) -> tuple[int | None, str]:
    """The exit code, and what stands on standard error."""
    with start(out, *more) as process:
        _, complaint = process.communicate(timeout=300)
    return process.returncode, complaint


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    out = tmp_path_factory.mktemp("whole") / "whole.pt"
    assert run(out)[0] == 0
    return out


@pytest.mark.skipif(not CAN_FORK, reason="this system has no forks")
def test_runs_killed_at_random_moments_end_with_the_same_bits(tmp_path: Path) -> None:
    tally = kill_train(tmp_path, random.Random(0), NUM_KILLS)
    assert (tally.num_kills, tally.broken) == (NUM_KILLS, [])


class Killed(BaseException):
    """As a kill ends the process: nothing after it is done."""


@pytest.mark.parametrize("at", range(5))
def test_a_kill_between_two_files_leaves_no_mixture_of_two_runs(
    at: int, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is repeated at the place of its finished result, and killed before it renames its `at`-th file."""
    options, digits = replace(OPTIONS, epochs=2), replace(digits, train=digits.train.take(torch.arange(300).numpy()))
    run_folder = RunFolder(tmp_path / "run.pt")
    train(digits, options, run_folder=run_folder)
    whole, metrics = [Checkpoint.load(path) for path in (run_folder.path, run_folder.last_path)], lines_of(run_folder)
    renamed, rename = list[Path](), Path.replace

    def replace_or_die(path: Path, target: Path) -> Path:
        if len(renamed) == at:
            raise Killed
        renamed.append(target)
        return rename(path, target)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Path, "replace", replace_or_die)
        train(digits, options, run_folder=run_folder)
    train(digits, options, run_folder=run_folder, resume_from=run_folder.find())
    assert all(map(same, map(Checkpoint.load, (run_folder.path, run_folder.last_path)), whole))
    assert lines_of(run_folder) == metrics


def lines_of(run_folder: RunFolder) -> list[dict[str, object]]:
    return [json.loads(line) | {"elapsed_s": 0} for line in run_folder.metrics_path.read_text().splitlines()]


def test_ctrl_c_saves_the_state_and_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "run.pt"
    left = tmp_path / ".run.last.pt.4194305.part"  # a run that was killed could not remove it
    left.write_bytes(b"half of a checkpoint")
    with subprocess.Popen(
        [sys.executable, "-m", "onward", *arguments(out, "--epochs", "100000")],  # it does not end by itself
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        assert next((line for line in process.stderr if "epoch   1" in line), None)
        code, refusal = run(out, "--overwrite")  # a second run at the same output would lose one of the two
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "The same command with --resume continues." in complaint
    assert not Checkpoint.load(tmp_path / "run.last.pt").progress["finished"]
    assert code == 2
    assert f"another run is writing {out}: wait for it, or choose another --out." in refusal
    assert {path.name for path in tmp_path.iterdir()} == FILES


@pytest.mark.skipif(not hasattr(os, "openpty"), reason="this system has no terminals")
def test_a_terminal_that_goes_away_saves_the_state(tmp_path: Path) -> None:
    import pty

    out = tmp_path / "run.pt"
    child, terminal = pty.fork()
    if not child:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "onward", *arguments(out, "--epochs", "100000")]
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # it is ignored where the tests run under nohup
        signal.alarm(120)  # ends a process that goes on
        os.execve(sys.executable, command, environment)
    shown = b""
    while b"epoch   1" not in shown:
        shown += os.read(terminal, 4096)
    os.close(terminal)  # as closing a window does: SIGHUP, and nothing can be printed any more
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP
    assert not Checkpoint.load(tmp_path / "run.last.pt").progress["finished"]


@pytest.mark.parametrize("out", ["/proc/nowhere/run.pt", "{folder}", "{file}/run.pt"])
def test_an_output_that_cannot_be_written_is_an_error_before_the_work(out: str, here, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    out = out.format(folder=tmp_path, file=tmp_path / "file")
    result = here("train", "--data", f"folder:{tmp_path}", "--out", out)  # the data set would be the next error
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert f"onward: {out} could not be written:" in result.stderr


def test_a_full_disk_ends_a_run_with_a_sentence_and_loses_nothing(whole: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 100 << 10) as disk:
        (disk / "other").write_bytes(bytes(40_000))
        code, complaint = run(disk / "run.pt")
        assert code == 2
        assert "no space is left on the disk" in complaint
        assert sorted(item.suffix for item in disk.iterdir()) != [], "what was whole is still there"
        (disk / "other").unlink()
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        assert run(disk / "run.pt", "--resume")[0] == 0
        assert same(Checkpoint.load(disk / "run.pt"), Checkpoint.load(whole))
