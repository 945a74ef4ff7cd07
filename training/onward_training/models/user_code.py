"""Own: a network of the user's, `FILE.py:NAME` or `package.module:NAME`.

This runs their code, and only when they name it.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from onward.errors import UsageError, reason_of
from onward.signature import AnySignature, Signature

__all__ = ["user_network"]


def user_network(name: str, signature: AnySignature, **arguments: Any) -> nn.Module:
    """Call a class or function of the user's.

    Sizes that it asks for by one of the usual names (`_sizes`) and that were not given are filled in: where the
    parameter has no default, and the number of classes always.

    Args:
        name: `FILE.py:NAME` or `package.module:NAME`.
        signature: Where the sizes come from.
        arguments: Its further arguments.

    Raises:
        UsageError: No such file, module or name; it cannot be called so; or it returns no nn.Module.
    """
    builder = _find(name)
    try:
        network = builder(**_filled(builder, signature) | arguments)
    except UsageError:
        raise
    except Exception as error:  # it is the user's code: whatever it raises is theirs to read
        raise UsageError(f"{name} cannot be built: {type(error).__name__}: {reason_of(error)}") from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"{name} gives a {type(network).__name__}, expected an nn.Module.")
    return network


def _sizes(signature: AnySignature) -> Mapping[str, Any]:
    names = ("num_classes", "n_classes", "num_labels", "output_size", "out_features")
    classes = dict.fromkeys(names, signature.num_classes) | {"signature": signature}
    if not isinstance(signature, Signature):
        if len(signature.inputs) > 1 or None in signature.inputs[0].shape:
            return classes
        num_inputs = math.prod(size or 1 for size in signature.inputs[0].shape)
        return classes | {"num_inputs": num_inputs, "input_size": num_inputs, "in_features": num_inputs}
    channels, height, width = signature.network_channels, signature.height, signature.width
    num_inputs = channels * height * width
    return classes | {
        "num_inputs": num_inputs,
        "input_size": num_inputs,
        "in_features": num_inputs,
        "in_channels": channels,
        "in_chans": channels,
        "image_shape": (channels, height, width),
    }


def _filled(builder: Callable[..., Any], signature: AnySignature) -> dict[str, Any]:
    sizes = _sizes(signature)
    parameters = inspect.signature(builder).parameters.values()
    return {
        item.name: sizes[item.name]
        for item in parameters
        if item.name in sizes and (item.default is item.empty or sizes[item.name] is signature.num_classes)
    }


def _find(name: str) -> Callable[..., Any]:
    place, _, attribute = name.rpartition(":")
    module = _import_file(Path(place)) if place.endswith(".py") else _import_module(place)
    found = getattr(module, attribute, None)
    if not callable(found):
        public = [
            key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, nn.Module)
        ]
        raise UsageError(
            f"{place} has no {attribute!r} that can be called; its networks: {', '.join(public) or 'none'}."
        )
    result: Callable[..., Any] = found
    return result


def _import_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise UsageError(f"{path} does not exist.")
    path = path.resolve()
    name = path.stem
    loaded = sys.modules.get(name)
    if loaded is not None and Path(getattr(loaded, "__file__", None) or "").resolve() == path:
        return loaded
    if loaded is not None or not name.isidentifier() or _is_taken(name, path):
        raise UsageError(f"{path.name} cannot be imported under its name, which is taken or no name; rename the file.")
    # its folder is importable as when Python runs a script, but last, so that it hides nothing
    sys.path.append(str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise UsageError(f"{path} cannot be imported: {type(error).__name__}: {reason_of(error)}") from error
    return module


def _is_taken(name: str, path: Path) -> bool:
    spec = importlib.util.find_spec(name)
    return spec is not None and Path(spec.origin or "").resolve() != path


def _import_module(name: str) -> ModuleType:
    if not name:
        raise UsageError("a network of yours is named FILE.py:NAME or package.module:NAME.")
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise UsageError(f"{name} cannot be imported: {type(error).__name__}: {reason_of(error)}") from error
