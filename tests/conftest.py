"""What the tests of all floors share: small real models, exported once a run, and the machine's data."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch

from onward.bundle import Bundle
from onward_export.model_to_export import ModelToExport
from onward_export.publish import publish
from onward_training.checkpoint import Checkpoint
from onward_training.data import Dataset, load
from onward_training.data.idx_files import find_folder
from onward_training.loop import train
from onward_training.options import TrainOptions
from tests.tracing import traced_by_forks

ROOT = Path(__file__).parent.parent
Onward = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(autouse=True)
def torch_threads() -> Iterator[None]:
    """PyTorch's number of threads is the process's, and decides the last bits: what a test sets does not outlive it."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session", autouse=True)
def one_table_of_operators() -> Iterator[None]:
    """Build PyTorch's table of ONNX operators once a process; it builds one an export, in half of a small one's time.

    The table comes from the installed packages alone; every export gets a copy, to which it may add.
    ModelToExport: torch.onnx._internal.exporter._registration, `ONNXRegistry.from_torchlib`.
    """
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    build = functools.cache(ONNXRegistry.from_torchlib)

    def copy_of_it(**options: int) -> ONNXRegistry:
        registry, copied = build(**options), ONNXRegistry()
        copied._opset_version = registry.opset_version
        copied.functions = {name: list(functions) for name, functions in registry.functions.items()}
        return copied

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(copy_of_it))
        yield


@pytest.fixture(scope="session", autouse=True)
def tracing_by_forks() -> Iterator[None]:
    """Trace TorchScript without an import of PyTorch for each export, where the system has forks."""
    with traced_by_forks() if hasattr(os, "fork") else nullcontext():
        yield


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load("digits")


@pytest.fixture(scope="session")
def checkpoint(digits: Dataset) -> Checkpoint:
    """A small CNN with batch norm and dropout, trained for real, to over 90 %."""
    arguments = {"widths": [8, 16], "num_hidden": 32}
    options = TrainOptions(model="cnn", arguments=arguments, epochs=8, learning_rate=1e-2)
    return train(digits, options)


@pytest.fixture(scope="session")
def checkpoint_path(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "digits.pt"
    checkpoint.save(path)
    return path


@pytest.fixture(scope="session")
def shared_bundle(checkpoint: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The bundle of `checkpoint`. Read it, do not change it; `bundle` is a copy to play with."""
    return publish(ModelToExport.from_checkpoint(checkpoint), tmp_path_factory.mktemp("bundle") / "digits")


@pytest.fixture
def bundle(shared_bundle: Bundle, tmp_path: Path) -> Bundle:
    """A copy of the bundle that a test may damage."""
    path = tmp_path / "digits"
    shutil.copytree(shared_bundle.path, path)
    return Bundle.open(path)


@pytest.fixture(scope="session")
def onward() -> Onward:
    """The command, in a process of its own: `onward("verify", path)`; text comes back."""

    def run(*arguments: object, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "onward", *map(str, arguments)],
            cwd=cwd,
            env=os.environ | {"PYTHONPATH": str(ROOT), "COLUMNS": "200"} | environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

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
