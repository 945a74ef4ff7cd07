"""The device that PyTorch's two backends run on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from onward.backends.providers import CPU, CUDA, AnyProvider, ProviderRequest
from onward.backends.registry import Threads
from onward.errors import BackendError
from onward.signature import Signature
from onward.tensor_signature import AnySignature

__all__ = ["can_share", "open_device", "to_numpy", "to_tensors"]

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


def to_tensors(arrays: Mapping[str, NDArray[Any]], device: torch.device, *, shared: bool) -> list[torch.Tensor]:
    """Tensors on the device, of arrays of any memory layout; `shared`: on the arrays' own memory where that can be.

    PyTorch takes no negative strides and warns of read-only memory; such arrays are copied.
    """
    tensors = [_to_tensor(array, shared) for array in arrays.values()]
    return tensors if device.type == "cpu" else [tensor.to(device) for tensor in tensors]


def _to_tensor(array: NDArray[Any], shared: bool) -> torch.Tensor:
    if shared and array.flags.c_contiguous and array.flags.writeable:
        return torch.from_numpy(array)
    return torch.tensor(np.ascontiguousarray(array))


def can_share(signature: AnySignature) -> bool:
    """Whether a network cannot write into what it is fed: of pixels it sees only the cast that is made of them.

    Tensors it sees as they are, and a first `ReLU(inplace=True)` would change the caller's array.
    """
    return isinstance(signature, Signature) and signature.interface == "pixels"


def to_numpy(outputs: tuple[torch.Tensor, ...]) -> list[NDArray[Any]]:
    """A model's outputs as arrays in the processor's memory; waits for the device."""
    return [tensor.numpy() if tensor.is_cpu else tensor.cpu().numpy() for tensor in outputs]
