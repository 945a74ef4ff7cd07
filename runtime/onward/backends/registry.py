"""Backend: runs one artifact. `open → run(feed) → outputs`."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from onward.backends.providers import AnyProvider, Placement
from onward.bundle import Artifact, Bundle
from onward.errors import BackendError
from onward.feed import Feed
from onward.host.cpu import count_cores
from onward.signature import AnySignature

__all__ = ["RUNNERS", "Backend", "Threads", "open_artifact", "open_backend", "torch_is_installed"]

#: Format -> what can run an artifact of it; the first unless another is named.
#:
#: - `onnxruntime`, `openvino`: model.onnx, in float32.
#: - `torchscript`: model.torchscript, frozen.
#: - `eager`: the program's operators one after the other, without the checks that only a loaded program has.
#: - `module`: the program as `torch.export.load` gives it, with those checks.
#: - `channels-last`: as `eager`, weights and activations of four axes with their channels last in memory.
#: - `compiled`: `torch.compile` with frozen weights, anew for each batch size. Needs a C++ compiler.
RUNNERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "onnx": ("onnxruntime", "openvino"),
        "torchscript": ("torchscript",),
        "pt2": ("eager", "module", "channels-last", "compiled"),
    }
)


@dataclass(frozen=True)
class Threads:
    """What one inference may use of the processor.

    Args:
        intra_op: How many threads; None leaves it to the backend, which takes every core we have.
        spin: Whether onnxruntime's threads wait busily for the next inference. That doubles the speed of a small
            model at batch 1, and takes the cores from whatever else runs: decoding, in `predict`.
    """

    intra_op: int | None = None
    spin: bool = True

    @property
    def count(self) -> int:
        """The number meant: the one given, or the cores that this process may use."""
        return count_cores() if self.intra_op is None else self.intra_op


class Backend(Protocol):
    """What every backend can do."""

    @property
    def signature(self) -> AnySignature | None:
        """What the model takes and gives; None for an ONNX file that was opened without."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in the model's order."""

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what `infer` gives: `logits` and `probabilities`, or the file's own where there is no signature."""

    @property
    def name(self) -> str:
        """`onnx`, `torchscript` or `pt2`, what runs it if that is not the format's first, and the device."""

    @property
    def placement(self) -> Placement | None:
        """Which execution provider runs which nodes; None for PyTorch, which has none."""

    def run(self, feed: Feed) -> dict[str, NDArray[np.float32]]:
        """Run one batch.

        Args:
            feed: Input name -> array, dtype and shape as the bundle's signature has them; for a model of one input the
                array itself will do, e.g. uint8 `(batch, height, width, channels)`, 0 to 255.

        Returns:
            Output name -> float32 `(batch, classes)`.

        Raises:
            FeedError: A name, dtype or shape disagrees with the signature. Without one nothing is checked but that a
                lone array is fed to a model of one input.
        """

    def infer(self, arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The inference alone, of arrays that were held against the signature already.

        What a benchmark times: looking at a feed takes microseconds, a fifth of a small network's inference at batch 1.
        The results are in the processor's memory, so that a card has finished when this returns.

        Args:
            arrays: Input name -> array, in the order of `inputs` (`check_feed` returns such).

        Returns:
            An array for each of `outputs`, in that order: float32 `(batch, classes)`; without a signature whatever
            the file gives. They belong to the caller.

        Raises:
            BackendError: Only `compiled`, at the first batch of a size: it cannot be compiled.
            Exception: Arrays that do not fit raise whatever the library raises.
        """


def open_artifact(
    bundle: Bundle,
    artifact: Artifact,
    *,
    provider: AnyProvider = "cpu",
    threads: Threads | None = None,
    runner: str | None = None,
) -> Backend:
    """Open an artifact, after its digest was checked, with the backend for its format.

    Args:
        bundle: Where the artifact is.
        artifact: One of the bundle's.
        provider: For ONNX an execution provider, short or full, or several with a comma between them, or a request
            with options. TorchScript and .pt2 run on the first of them that is `cpu` or `cuda`; OpenVINO on `cpu`.
        threads: How many threads one inference may use.
        runner: What runs it, one of `RUNNERS` of its format; None is the first of them.

    Raises:
        BackendError: The runner is unknown or not installed, or the file does not open.
        BundleError: The file was changed.
        ProviderError: The provider is missing or does not take the model.
    """
    data = bundle.read(artifact.file)
    beside = {PurePosixPath(file.path).name: bundle.read(file) for file in bundle.beside(artifact)}
    return open_backend(
        artifact.format, data, bundle.signature, provider=provider, threads=threads, beside=beside, runner=runner
    )


def open_backend(
    format: str,
    data: bytes,
    signature: AnySignature | None,
    *,
    provider: AnyProvider = "cpu",
    threads: Threads | None = None,
    beside: Mapping[str, bytes] | None = None,
    runner: str | None = None,
) -> Backend:
    """Open an artifact's bytes with the backend for its format.

    Args:
        format: `onnx`, `torchscript` or `pt2`.
        data: The file's bytes.
        signature: What the model takes and gives; None for an ONNX file of anybody's, whose inputs and outputs are
            then those that it names.
        provider: As for `open_artifact`.
        threads: How many threads one inference may use.
        beside: File name -> bytes, of the weights that an ONNX file keeps in files of their own.
        runner: As for `open_artifact`.

    Raises:
        BackendError: The runner is unknown, not installed or needs a signature, or the file does not open.
        ProviderError: The provider is missing or does not take the model.
    """
    runner = _choose_runner(format, runner)
    threads = threads or Threads()
    if format == "onnx":
        return _open_onnx(data, signature, provider=provider, threads=threads, beside=beside, runner=runner)
    if signature is None:
        raise BackendError(f"a {format} artifact needs a signature: it does not name its inputs and outputs.")
    if not torch_is_installed():
        raise BackendError(
            f"a {format} artifact needs PyTorch, which is not installed here; the bundle's model.onnx does "
            f"not. `pip install torch` would add it."
        )
    if format == "torchscript":
        from onward.backends.torch_backend import TorchScriptBackend

        return TorchScriptBackend(data, signature=signature, device=provider, threads=threads)
    from onward.backends.torch_backend import ExportedProgramBackend

    return ExportedProgramBackend(data, signature=signature, device=provider, threads=threads, runner=runner)


def _choose_runner(format: str, runner: str | None) -> str:
    if format not in RUNNERS:
        raise BackendError(f"an artifact is of format {format!r}, which this Onward cannot run.")
    if runner is not None and runner not in RUNNERS[format]:
        raise BackendError(f"a {format} artifact is run by {', '.join(RUNNERS[format])}, not by {runner!r}.")
    return runner or RUNNERS[format][0]


def _open_onnx(
    data: bytes,
    signature: AnySignature | None,
    *,
    provider: AnyProvider,
    threads: Threads,
    beside: Mapping[str, bytes] | None,
    runner: str,
) -> Backend:
    if runner == "onnxruntime":
        from onward.backends.onnxruntime_backend import SessionBackend

        return SessionBackend(data, signature=signature, provider=provider, threads=threads, beside=beside)
    if importlib.util.find_spec("openvino") is None:
        raise BackendError(
            f"the runner {runner!r} needs OpenVINO, which is not installed here: `pip install openvino` would add it."
        )
    from onward.backends.openvino_backend import CompiledModelBackend

    return CompiledModelBackend(data, signature=signature, provider=provider, threads=threads, beside=beside)


def torch_is_installed() -> bool:
    """Whether PyTorch could be imported; it is not."""
    return importlib.util.find_spec("torch") is not None
