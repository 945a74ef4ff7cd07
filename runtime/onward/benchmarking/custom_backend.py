"""Custom backend: a user's own way to run a model, benchmarked beside the others. `FILE.py:NAME` names a function.

The function gets the path of the ONNX file and the number of threads. It returns a function from input name -> array
to the outputs, either in the file's order or by name.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from onward.backends import Threads
from onward.backends.backend import Backend
from onward.bundle.onnx_header import read_header
from onward.errors import BackendError

__all__ = ["CustomBackend", "is_custom", "open_custom"]

Arrays = Mapping[str, NDArray[Any]]
CustomOutputs = Mapping[str, NDArray[Any]] | Sequence[NDArray[Any]]


class CustomBackend(Backend):
    """Runs a user's function.

    Args:
        name: `FILE.py:NAME`.
        call: Input name -> array, to the outputs.
        outputs: Names of the outputs.
        num_threads: How many threads one inference may use.
    """

    name = ""
    signature = None
    inputs = ()

    def __init__(
        self, name: str, call: Callable[[Arrays], CustomOutputs], outputs: tuple[str, ...], num_threads: int
    ) -> None:
        self.name, self.call, self.outputs, self.num_threads = name, call, outputs, num_threads

    def infer(self, arrays: Arrays) -> list[NDArray[Any]]:
        """Run one batch: input name -> array, to the outputs in the file's order."""
        outputs = self.call(arrays)
        return [outputs[name] for name in self.outputs] if isinstance(outputs, Mapping) else list(outputs)


def is_custom(backend: str) -> bool:
    """Whether a backend's name is `FILE.py:NAME`."""
    return backend.rpartition(":")[0].endswith(".py")


def open_custom(backend: str, model: Path, threads: Threads) -> CustomBackend:
    """Import the file and call the function.

    Raises:
        BackendError: There is no such file or function, or it raises.
    """
    path, _, name = backend.rpartition(":")
    outputs = tuple(value.name for value in read_header(model).outputs)
    try:
        spec = importlib.util.spec_from_file_location(Path(path).stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return CustomBackend(backend, getattr(module, name)(model, threads.count), outputs, threads.count)
    except Exception as error:  # the user's code may raise anything
        raise BackendError(f"{backend} does not open: {type(error).__name__}: {error}") from error
