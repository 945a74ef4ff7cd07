"""TorchScript through PyTorch.

The one place that answers torch 2.15's deprecation of `torch.jit`: TorchScript stays an artifact of ours, because
C++ and mobile apps load it, and .pt2 stands beside it.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from onward.backends.device import can_share, open_device, to_numpy, to_tensors
from onward.backends.providers import AnyProvider
from onward.backends.registry import Threads
from onward.errors import BackendError
from onward.feed import Feed, check_feed
from onward.signature import OUTPUTS
from onward.tensor_signature import AnySignature

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
        device: `cpu` or `cuda`, or a request that has one of them.
        threads: Of one inference; PyTorch has one setting for the whole process.

    Raises:
        BackendError: PyTorch cannot open the file, or the device is missing.

    Source: torch.jit, `load`, `freeze`.
    """

    placement = None
    outputs = OUTPUTS

    def __init__(
        self, data: bytes, *, signature: AnySignature, device: AnyProvider = "cpu", threads: Threads | None = None
    ) -> None:
        self.signature = signature
        self.inputs = tuple(item.name for item in signature.inputs)
        self.shared = can_share(signature)
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

    def run(self, feed: Feed) -> dict[str, NDArray[np.float32]]:
        """Run one batch: a feed such as the signature has it -> output name -> float32."""
        return dict(zip(self.outputs, self.infer(check_feed(feed, self.signature)), strict=True))

    def infer(self, arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch that was checked: input name -> array; float32 arrays in the order of `outputs`."""
        with torch.inference_mode():
            return to_numpy(self.module(*to_tensors(arrays, self.device, shared=self.shared)))
