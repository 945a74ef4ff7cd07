"""Resume: a run that was killed, interrupted or out of space ends with the bits of one that never was."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from onward.errors import CheckpointError, UsageError
from onward_training.checkpoint import Checkpoint
from onward_training.data import Dataset
from onward_training.epoch_metrics import Step
from onward_training.loop import train
from onward_training.options import TrainOptions
from onward_training.run_folder import RunFolder
from tests.forks import CAN_FORK, Fork
from tests.small_disk import small_disk

pytestmark = pytest.mark.long
#: `make soak` asks for more.
NUM_KILLS = int(os.environ.get("ONWARD_KILLS", "2"))
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
    histories = [[replace(epoch, elapsed_s=0) for epoch in item.history] for item in (one, other)]
    return (
        one.weights_digest() == other.weights_digest()
        and histories[0] == histories[1]
        and one.provenance["best_epoch"] == other.provenance["best_epoch"]
        and str(one.optimizer) == str(other.optimizer)
    )


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
    train(digits, OPTIONS, run_folder=run_folder)
    run_folder.check_free()


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
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A run that nothing disturbed, and the seconds that it took."""
    out = tmp_path_factory.mktemp("whole") / "whole.pt"
    if CAN_FORK:  # what forks has imported PyTorch, then: that is no part of a run's time
        with Fork("onward", ["--version"], env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
            process.communicate(timeout=300)
    began = time.monotonic()
    assert run(out)[0] == 0
    return out, time.monotonic() - began


def test_a_run_killed_at_random_moments_ends_with_the_same_bits(whole: tuple[Path, float], tmp_path: Path) -> None:
    """After the last kill it goes on undisturbed. A machine that is faster now than it was is noticed."""
    undisturbed, whole_s = whole
    chance = random.Random(0)
    killed = 0
    for number in itertools.count():
        if killed >= NUM_KILLS:
            break
        out = tmp_path / f"run-{number}.pt"  # a new one: a run that ended before its kill cannot be killed any more
        while True:
            began = time.monotonic()
            with start(out, "--resume") as process:
                try:
                    patience_s = chance.uniform(0.1, 0.9) * whole_s if killed < NUM_KILLS else 600
                    _, complaint = process.communicate(timeout=patience_s)
                    assert process.returncode == 0, complaint
                    whole_s = min(whole_s, time.monotonic() - began)
                    break
                except subprocess.TimeoutExpired:
                    assert killed < NUM_KILLS, "it hangs"
                    process.kill()
                    killed += 1
        for name in ("", ".last"):
            ours, theirs = (Checkpoint.load(path.with_stem(path.stem + name)) for path in (out, undisturbed))
            assert same(ours, theirs)


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
        assert "epoch   1" in process.stderr.readline()
        code, refusal = run(out, "--overwrite")  # a second run at the same output would lose one of the two
        process.send_signal(signal.SIGINT)
        _, complaint = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "The same command with --resume continues." in complaint
    assert not Checkpoint.load(tmp_path / "run.last.pt").progress["finished"]
    assert code == 2
    assert f"another run is writing {out}: wait for it, or choose another --out." in refusal
    assert {path.name for path in tmp_path.iterdir()} == {"run.pt", "run.last.pt", "run.metrics.jsonl"}


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
    result = here("train", "--data", "folder:/nowhere", "--out", out)  # the data set would be the next error
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert f"onward: {out} could not be written:" in result.stderr


def test_a_full_disk_ends_a_run_with_a_sentence_and_loses_nothing(whole: tuple[Path, float], tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 100 << 10) as disk:
        (disk / "other").write_bytes(bytes(40_000))
        code, complaint = run(disk / "run.pt")
        assert code == 2
        assert "no space is left on the disk" in complaint
        assert sorted(item.suffix for item in disk.iterdir()) != [], "what was whole is still there"
        (disk / "other").unlink()
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        assert run(disk / "run.pt", "--resume")[0] == 0
        assert same(Checkpoint.load(disk / "run.pt"), Checkpoint.load(whole[0]))
