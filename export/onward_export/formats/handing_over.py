"""Handing over: a module as bytes, for the process that traces it. That process imports what can be imported."""

from __future__ import annotations

import functools
import importlib.util
import io
import site
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, NoReturn

import cloudpickle
import torch

from onward.errors import NotExportable, reason_of
from onward_export.deployable import Deployable
from onward_export.scripted import ScriptedCall, saved

__all__ = ["hand_over"]


def hand_over(deployable: Deployable, example: tuple[torch.Tensor, ...]) -> bytes:
    """Pickle a module with its example.

    Classes of files that the other process cannot import travel as code. What has no bytes, such as a lock or a file,
    is replaced by a stand-in: a module that only holds it does not notice.

    Raises:
        NotExportable: Something else cannot be pickled.
    """
    data = io.BytesIO()
    try:
        with _by_value():
            _Pickler(data).dump((deployable, example))
    except Exception as error:  # what a network holds can raise anything
        raise NotExportable(
            f"the model cannot be pickled for the process that traces it: {reason_of(error).rstrip('.')}. Keep what "
            "cannot be pickled out of the network, or leave TorchScript out: `--formats onnx,pt2`."
        ) from error
    return data.getvalue()


class StandIn:
    """Stands for an object that has no bytes; it can be entered and left, as a lock can.

    Args:
        kind: The name of the object's type.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        what = f"`{name}` of an object" if name else "an object"
        raise RuntimeError(f"forward uses {what} of type {self.kind}, which cannot be pickled")


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, torch.jit.ScriptFunction):
            return ScriptedCall, (saved(obj),)
        if isinstance(obj, io.IOBase):
            return StandIn, (type(obj).__name__,)
        reduced = super().reducer_override(obj)
        is_by_name = isinstance(obj, (type, FunctionType, BuiltinFunctionType))
        if reduced is not NotImplemented or is_by_name or type(obj) in self.dispatch_table:
            return reduced
        try:
            return obj.__reduce_ex__(4)
        except (TypeError, RuntimeError):
            return StandIn, (type(obj).__name__,)


@contextmanager
def _by_value() -> Iterator[None]:
    """Modules of the user's own files that another process would not find are pickled as code."""
    modules = [module for module in list(sys.modules.values()) if _is_of_user(module) and not _can_be_imported(module)]
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)


def _is_of_user(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    if not file or module.__name__ in ("__main__", "__mp_main__"):
        return False
    return not file.startswith(_installed())


@functools.cache
def _installed() -> tuple[str, ...]:
    """The folders of installed packages, of Python and of Onward."""
    return (*site.getsitepackages(), sysconfig.get_paths()["stdlib"], str(Path(__file__).parents[2]))


def _can_be_imported(module: ModuleType) -> bool:
    loaded = sys.modules.pop(module.__name__, None)
    try:
        found = importlib.util.find_spec(module.__name__)
    except (ImportError, ValueError, AttributeError):
        found = None
    finally:
        if loaded is not None:
            sys.modules[module.__name__] = loaded
    return found is not None and found.origin == module.__file__
