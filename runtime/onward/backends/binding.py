"""Binding: runs a session on memory that is bound to it.

A card copies from ordinary memory by way of a small buffer of the driver's, and from pinned (page-locked) memory
directly. onnxruntime hands out pinned memory only where its CUDA provider is registered with devices of its own;
elsewhere the arrays are bound as they are.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from onward.backends.providers import CUDA, TENSORRT

__all__ = ["BINDING_PROVIDERS", "BoundSession", "pinned_memory"]

#: Those of NVIDIA's cards.
BINDING_PROVIDERS = (TENSORRT, CUDA)


class BoundSession:
    """Runs a session with its inputs and outputs bound; from several threads at once, if so wished.

    Args:
        session: An opened one, on any provider.
        outputs: Names of its outputs.
        memory: Where inputs are copied to before they are bound, a buffer for each thread; None binds the arrays.

    Source: onnxruntime, `IOBinding`.
    """

    def __init__(
        self, session: ort.InferenceSession, outputs: Sequence[str], *, memory: ort.OrtMemoryInfo | None = None
    ) -> None:
        self.session = session
        self.outputs = outputs
        self.memory = memory
        self._own = threading.local()

    def run(self, arrays: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run one batch: input name -> array of any memory layout; the outputs belong to the caller."""
        binding = self.session.io_binding()
        for name, array in arrays.items():
            if self.memory is None or not array.size:
                binding.bind_cpu_input(name, np.ascontiguousarray(array))
            else:
                binding.bind_ortvalue_input(name, self._stage(name, array))
        for name in self.outputs:
            binding.bind_output(name)
        binding.synchronize_inputs()
        self.session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        found: list[NDArray[Any]] = binding.copy_outputs_to_cpu()
        return found

    def _stage(self, name: str, array: NDArray[Any]) -> ort.OrtValue:
        """The array in this thread's buffer. It is free again: `run` returns when the outputs are there."""
        buffers: dict[str, tuple[ort.OrtValue, NDArray[Any]]] = self._own.__dict__
        if name not in buffers or (buffers[name][1].shape, buffers[name][1].dtype) != (array.shape, array.dtype):
            buffers[name] = _allocate(array.shape, array.dtype, self.memory)
        value, view = buffers[name]
        view[...] = array
        return value


def pinned_memory(device_id: int = 0) -> ort.OrtMemoryInfo | None:
    """The pinned memory of an NVIDIA card, where this onnxruntime hands it out.

    Source: onnxruntime, `OrtEpDevice.memory_info`; the views came with pull request 28038.
    """
    for device in ort.get_ep_devices() if hasattr(ort, "get_ep_devices") else ():
        memory = device.memory_info(ort.OrtDeviceMemoryType.HOST_ACCESSIBLE) if device.ep_name == CUDA else None
        if memory is not None and memory.device_id == device_id and _is_shared(memory):
            return memory
    return None


def _is_shared(memory: ort.OrtMemoryInfo) -> bool:
    """Whether what numpy writes arrives: older ones give a copy, or no such memory."""
    try:
        value, view = _allocate((1,), np.dtype(np.uint8), memory)
    except (RuntimeError, TypeError):
        return False
    return bool(view.ctypes.data == value.data_ptr())


def _allocate(
    shape: tuple[int, ...], dtype: np.dtype[Any], memory: ort.OrtMemoryInfo
) -> tuple[ort.OrtValue, NDArray[Any]]:
    value = ort.OrtValue.ortvalue_from_shape_and_type(shape, dtype.type, memory_info=memory)
    return value, value.numpy()
