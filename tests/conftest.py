"""What the tests of all floors share: a small real model and its bundle, and data. Importing this loads no PyTorch."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings

from onward.bundle import Bundle
from onward.cli.app import main
from onward_training.data import Dataset, load
from onward_training.data.idx_files import find_folder
from tests.bundles import DIGITS, STATE, path_of
from tests.forks import CAN_FORK, Fork
from tests.needs import TORCH_IS_INSTALLED

if TYPE_CHECKING:  # it would import PyTorch
    from onward_training.checkpoint import Checkpoint

Onward = Callable[..., subprocess.CompletedProcess[str]]
#: No test fails because the machine is busy.
settings.register_profile("onward", deadline=None)
settings.load_profile("onward")
os.environ["ONWARD_STATE"] = str(STATE)

IMPORT_TORCH = ("train", "evaluate", "export", "verify", "inspect", "quantize")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the mark `long` come first: one begun last would keep one process busy while the others are idle."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish() -> None:
    """What was imported stays: looking through it for garbage again and again takes a tenth of an export's time."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # libraries that count what is left at the end would complain


@pytest.fixture(autouse=True)
def torch_threads() -> Iterator[None]:
    """PyTorch's number of threads is the process's, and decides the last bits: what a test sets does not outlive it."""
    before = sys.modules["torch"].get_num_threads() if "torch" in sys.modules else os.environ.get("OMP_NUM_THREADS")
    yield
    if before and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(int(before))


@pytest.fixture(autouse=True)
def torch_seed() -> None:
    """A test draws the same numbers whatever ran before it in its process."""
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def exports() -> Iterator[None]:
    """Where tests that were collected use PyTorch, exports are faster, with the same results."""
    if "torch" not in sys.modules:
        yield
        return
    from tests.fast_exports import fast_exports

    with fast_exports():
        yield


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="session")
def checkpoint_path() -> Path:
    """A small CNN with batch norm and dropout, trained for real, to over 90 %. Read it, do not change it."""
    return path_of("digits.pt")


@pytest.fixture(scope="session")
def checkpoint(checkpoint_path: Path) -> Checkpoint:
    pytest.importorskip("torch")
    from onward_training.checkpoint import Checkpoint

    return Checkpoint.load(checkpoint_path)


@pytest.fixture(scope="session")
def shared_bundle() -> Bundle:
    """The bundle of `checkpoint`. Read it, do not change it; `bundle` is a copy to play with."""
    return Bundle.open(path_of(DIGITS))


@pytest.fixture
def bundle(shared_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A copy of the bundle that a test may damage."""
    path = tmp_path / "digits"
    shutil.copytree(shared_bundle.path, path)
    return Bundle.open(path)


@pytest.fixture(scope="session")
def onward() -> Onward:
    """The command, in a process of its own: `onward("verify", path)`; text comes back.

    Commands that import PyTorch run in a fork of a process that has imported it.
    """

    def run(*arguments: object, cwd: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
        command, environment = list(map(str, arguments)), os.environ | {"COLUMNS": "200"} | more
        if CAN_FORK and TORCH_IS_INSTALLED and command[0] in IMPORT_TORCH:
            with Fork("onward", command, cwd=cwd, env=environment) as process:
                out, errors = process.communicate(timeout=300)
                return subprocess.CompletedProcess(command, int(process.returncode or 0), out, errors)
        command = [sys.executable, "-m", "onward", *command]
        return subprocess.run(
            command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=300
        )

    return run


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Onward:
    """The whole program in this process: starting a new one takes most of a short one's time.

    What it does not catch, it raises. `onward` starts a new process; tests/test_onward.py does that for every command.
    """

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        monkeypatch.setenv("COLUMNS", "200")
        monkeypatch.setattr(sys, "argv", ["onward", *map(str, arguments)])
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # typer puts one of its own there
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        out, errors = capsys.readouterr()
        return subprocess.CompletedProcess(sys.argv, int(end.value.code or 0), out, errors)

    return run


@pytest.fixture(scope="session")
def fashion_mnist() -> Dataset:
    """The real Fashion-MNIST; .ci/run installs Debian's package, so that under CI it must be there."""
    if find_folder("fashion-mnist") is None:
        if os.environ.get("CI") and shutil.which("apt-get"):
            pytest.fail("under CI, .ci/run installs dataset-fashion-mnist; it is not there")
        pytest.skip("Fashion-MNIST is not on this machine: apt-get install dataset-fashion-mnist")
    return load("fashion-mnist")


@pytest.fixture
def pixels(digits: Dataset) -> np.ndarray:
    """Real test images, uint8 `(40, 8, 8, 1)`."""
    return digits.test.images[:40]
