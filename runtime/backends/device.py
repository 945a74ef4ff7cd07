"""The device that PyTorch's two backends run on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.backends.backend import Threads
from runtime.errors import BackendError
from runtime.signature import OUTPUTS

__all__ = ["open_device", "to_numpy", "to_tensors"]

DEVICES = ("cpu", "cuda")


def open_device(name: str, threads: Threads) -> torch.device:
    """The torch device of that name, with this process's number of threads set.

    Raises:
        BackendError: PyTorch has no such device here.
    """
    if name not in DEVICES:
        raise BackendError(f"PyTorch runs on {' or '.join(DEVICES)}, not on {name!r}.")
    if name == "cuda" and not torch.cuda.is_available():
        raise BackendError("PyTorch finds no CUDA device here; `--provider cpu` runs on the processor.")
    if name == "cuda":
        # cuDNN's default for convolutions is TF32, 10 bits of a float32's 23: parity would not hold
        torch.backends.cudnn.allow_tf32 = False
    if threads.intra_op is not None:
        torch.set_num_threads(threads.intra_op)
    return torch.device(name)


def to_tensors(arrays: Mapping[str, NDArray[Any]], device: torch.device) -> list[torch.Tensor]:
    """Copies on the device; of any memory layout, which torch alone does not take."""
    return [torch.tensor(np.ascontiguousarray(array), device=device) for array in arrays.values()]


def to_numpy(outputs: tuple[torch.Tensor, ...]) -> dict[str, NDArray[np.float32]]:
    """Name a model's outputs, as float32 arrays in the processor's memory."""
    return {name: tensor.cpu().numpy() for name, tensor in zip(OUTPUTS, outputs, strict=True)}
