"""TorchScript through PyTorch.

The one place that answers torch 2.15's deprecation of `torch.jit`: TorchScript stays an artifact of ours, because
C++ and mobile apps load it, and .pt2 stands beside it.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.backends.backend import Threads, check_images
from runtime.backends.device import open_device, to_numpy, to_tensor
from runtime.errors import BackendError
from runtime.signature import Signature

__all__ = ["TorchScriptBackend", "torchscript_is_meant"]


@contextmanager
def torchscript_is_meant() -> Iterator[None]:
    """Silence the deprecation warnings of `torch.jit`."""
    with warnings.catch_warnings():
        for category in (FutureWarning, DeprecationWarning):
            warnings.filterwarnings("ignore", message=r"`torch\.jit", category=category)
        yield


class TorchScriptBackend:
    """Runs model.torchscript, frozen.

    Args:
        data: The file's bytes.
        signature: What the model takes and gives.
        device: `cpu` or `cuda`.
        threads: Of one inference; PyTorch has one setting for the whole process.

    Raises:
        BackendError: PyTorch cannot open the file, or the device is missing.

    Source: torch.jit, `load`, `freeze`.
    """

    def __init__(
        self, data: bytes, *, signature: Signature, device: str = "cpu", threads: Threads | None = None
    ) -> None:
        self.signature = signature
        self.device = open_device(device, threads or Threads())
        try:
            with torchscript_is_meant():
                module = torch.jit.load(io.BytesIO(data), map_location=self.device)  # type: ignore[no-untyped-call]
                self.module = torch.jit.freeze(module.eval())
        except RuntimeError as error:
            raise BackendError(f"PyTorch cannot open the TorchScript file: {error}") from error

    @property
    def name(self) -> str:
        """`torchscript`, and the device."""
        return f"torchscript ({self.device.type.upper()})"

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Run one batch: uint8 `(batch, height, width, channels)` -> output name -> float32."""
        check_images(images, self.signature)
        with torch.inference_mode():
            return to_numpy(self.module(to_tensor(images, self.device)))
