"""Backend: runs one artifact. `open → run(feed) → outputs`."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.bundle import Artifact, Bundle
from runtime.cores import count_cores
from runtime.errors import BackendError
from runtime.feed import Feed
from runtime.placement import Placement
from runtime.providers import AnyProvider
from runtime.tensor_signature import AnySignature

__all__ = ["Backend", "Threads", "open_artifact", "open_backend", "torch_is_installed"]


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

    signature: AnySignature

    @property
    def name(self) -> str:
        """`onnx`, `torchscript` or `pt2`, and the device that it runs on."""

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
            FeedError: A name, dtype or shape disagrees with the signature.
        """


def open_artifact(
    bundle: Bundle, artifact: Artifact, *, provider: AnyProvider = "cpu", threads: Threads | None = None
) -> Backend:
    """Open an artifact, after its digest was checked, with the backend for its format.

    Args:
        bundle: Where the artifact is.
        artifact: One of the bundle's.
        provider: For ONNX an execution provider, short or full, or several with a comma between them, or a request
            with options. TorchScript and .pt2 run on the first of them that is `cpu` or `cuda`.
        threads: How many threads one inference may use.

    Raises:
        BackendError: The format needs torch and it is not installed, or the file does not open.
        BundleError: The file was changed.
        ProviderError: The provider is missing or does not take the model.
    """
    data = bundle.read(artifact.file)
    beside = {PurePosixPath(file.path).name: bundle.read(file) for file in bundle.beside(artifact)}
    return open_backend(artifact.format, data, bundle.signature, provider=provider, threads=threads, beside=beside)


def open_backend(
    format: str,
    data: bytes,
    signature: AnySignature,
    *,
    provider: AnyProvider = "cpu",
    threads: Threads | None = None,
    beside: Mapping[str, bytes] | None = None,
) -> Backend:
    """Open an artifact's bytes with the backend for its format.

    Args:
        format: `onnx`, `torchscript` or `pt2`.
        data: The file's bytes.
        signature: What the model takes and gives.
        provider: As for `open_artifact`.
        threads: How many threads one inference may use.
        beside: File name -> bytes, of the weights that an ONNX file keeps in files of their own.

    Raises:
        BackendError: The format needs torch and it is not installed, or the file does not open.
        ProviderError: The provider is missing or does not take the model.
    """
    threads = threads or Threads()
    match format:
        case "onnx":
            from runtime.backends.session import SessionBackend

            return SessionBackend(data, signature=signature, provider=provider, threads=threads, beside=beside)
        case "torchscript" | "pt2" if not torch_is_installed():
            raise BackendError(
                f"a {format} artifact needs PyTorch, which is not installed here; the bundle's model.onnx does "
                f"not. `pip install torch` would add it."
            )
        case "torchscript":
            from runtime.backends.torchscript import TorchScriptBackend

            return TorchScriptBackend(data, signature=signature, device=provider, threads=threads)
        case "pt2":
            from runtime.backends.pt2 import ExportedProgramBackend

            return ExportedProgramBackend(data, signature=signature, device=provider, threads=threads)
        case other:
            raise BackendError(f"an artifact is of format {other!r}, which this Onward cannot run.")


def torch_is_installed() -> bool:
    """Whether PyTorch could be imported; it is not."""
    return importlib.util.find_spec("torch") is not None
