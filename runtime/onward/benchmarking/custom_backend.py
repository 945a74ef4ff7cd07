"""Own: somebody's own way to run a model, timed beside the others. `FILE.py:NAME` names a function.

It is called with the path of the ONNX file and the number of threads, and gives a function from input name -> array to
the outputs, in the file's order or by their names.
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
from onward.bundle.onnx_header import read_outline
from onward.errors import BackendError

__all__ = ["OwnBackend", "is_own", "open_own"]

Arrays = Mapping[str, NDArray[Any]]
OwnOutputs = Mapping[str, NDArray[Any]] | Sequence[NDArray[Any]]


class OwnBackend(Backend):
    """Runs what somebody has written.

    Args:
        name: As it was asked for.
        call: Input name -> array, to the outputs.
        outputs: Their names.
    """

    name = ""
    signature = None
    inputs = ()

    def __init__(self, name: str, call: Callable[[Arrays], OwnOutputs], outputs: tuple[str, ...]) -> None:
        self.name, self.call, self.outputs = name, call, outputs

    def infer(self, arrays: Arrays) -> list[NDArray[Any]]:
        """Run one batch: input name -> array -> the outputs in the file's order."""
        outputs = self.call(arrays)
        return [outputs[name] for name in self.outputs] if isinstance(outputs, Mapping) else list(outputs)


def is_own(backend: str) -> bool:
    """Whether a name is one of somebody's own: `FILE.py:NAME`."""
    return backend.rpartition(":")[0].endswith(".py")


def open_own(backend: str, model: Path, threads: Threads) -> OwnBackend:
    """Import the file and call the function.

    Raises:
        BackendError: There is no such file or function, or it raises.
    """
    path, _, name = backend.rpartition(":")
    outputs = tuple(value.name for value in read_outline(model).outputs)
    try:
        spec = importlib.util.spec_from_file_location(Path(path).stem, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        return OwnBackend(backend, getattr(module, name)(model, threads.count), outputs)
    except Exception as error:  # whatever it does is its own
        raise BackendError(f"{backend} does not open: {type(error).__name__}: {error}") from error
