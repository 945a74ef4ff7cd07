"""The device that PyTorch's two backends run on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from runtime.backends.backend import Threads
from runtime.errors import BackendError
from runtime.providers import CPU, CUDA, AnyProvider, ProviderRequest
from runtime.signature import OUTPUTS

__all__ = ["open_device", "to_numpy", "to_tensors"]

DEVICES = {CPU: "cpu", CUDA: "cuda"}


def open_device(provider: AnyProvider, threads: Threads) -> torch.device:
    """The torch device of the first provider that PyTorch can run on here, with the process's number of threads set.

    Of a provider's options only `device_id` is PyTorch's; TF32 stays off.

    Raises:
        BackendError: PyTorch has no such device here.
        ProviderError: A name is unknown.
    """
    device = _choose(ProviderRequest.of(provider))
    if device.type == "cuda":
        # cuDNN's default for convolutions is TF32, 10 bits of a float32's 23: parity would not hold
        torch.backends.cudnn.allow_tf32 = False
    if threads.intra_op is not None:
        torch.set_num_threads(threads.intra_op)
    return device


def _choose(request: ProviderRequest) -> torch.device:
    known = [provider for provider in request.providers if provider.name in DEVICES]
    for provider in known:
        if provider.name == CPU:
            return torch.device("cpu")
        if torch.cuda.is_available() and provider.device_id < torch.cuda.device_count():
            return torch.device("cuda", provider.device_id)
    if not known:
        raise BackendError(f"PyTorch runs on {' or '.join(DEVICES.values())}, not on '{request}'.")
    where = f" {known[0].options['device_id']}" if "device_id" in known[0].options else ""
    raise BackendError(f"PyTorch finds no CUDA device{where} here; `--provider cpu` runs on the processor.")


def to_tensors(arrays: Mapping[str, NDArray[Any]], device: torch.device) -> list[torch.Tensor]:
    """Copies on the device; of any memory layout, which torch alone does not take."""
    return [torch.tensor(np.ascontiguousarray(array), device=device) for array in arrays.values()]


def to_numpy(outputs: tuple[torch.Tensor, ...]) -> dict[str, NDArray[np.float32]]:
    """Name a model's outputs, as float32 arrays in the processor's memory."""
    return {name: tensor.cpu().numpy() for name, tensor in zip(OUTPUTS, outputs, strict=True)}
