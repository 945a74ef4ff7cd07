""".pt2, the exported program, through PyTorch: its module is what PyTorch runs eagerly."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.backends.backend import Threads, check_images
from runtime.backends.device import open_device, to_numpy
from runtime.errors import BackendError
from runtime.signature import Signature

__all__ = ["ExportedProgramBackend"]


class ExportedProgramBackend:
    """Runs model.pt2 eagerly.

    Args:
        data: The file's bytes.
        signature: What the model takes and gives.
        device: `cpu` or `cuda`.
        threads: Of one inference; PyTorch has one setting for the whole process.

    Raises:
        BackendError: PyTorch cannot open the file, or the device is missing.

    Source: torch.export, `load`; `ExportedProgram.module`.
    """

    def __init__(
        self, data: bytes, *, signature: Signature, device: str = "cpu", threads: Threads | None = None
    ) -> None:
        self.signature = signature
        self.device = open_device(device, threads or Threads())
        try:
            self.module = torch.export.load(io.BytesIO(data)).module().to(self.device)
        except (RuntimeError, ValueError, zipfile.BadZipFile) as error:
            raise BackendError(f"PyTorch cannot open the .pt2 file: {error}") from error

    @property
    def name(self) -> str:
        """`pt2`, and the device."""
        return f"pt2 ({self.device.type.upper()})"

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Run one batch: uint8 `(batch, height, width, channels)` -> output name -> float32."""
        check_images(images, self.signature)
        with torch.inference_mode():
            return to_numpy(self.module(torch.tensor(images, device=self.device)))
