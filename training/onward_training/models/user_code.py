"""User code: a network from `FILE.py:NAME` or `package.module:NAME`.

Building it runs the user's code. That happens only if the user names it; a checkpoint's word is not enough.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import math
import re
import sys
import sysconfig
from collections.abc import Callable, Mapping
from importlib import metadata
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from onward.errors import OnwardError, UsageError, reason_of
from onward.signature import AnySignature, Signature

__all__ = ["free_parameters", "module_of", "user_network"]


def user_network(name: str, signature: AnySignature, **arguments: Any) -> nn.Module:
    """Call a class or function of the user's that returns a network.

    Parameters with a usual name for a size (`_sizes`) are filled in unless they are in `arguments`: sizes of the input
    if the parameter has no default, the number of classes always.

    Args:
        name: `FILE.py:NAME` or `package.module:NAME`.
        signature: Gives the sizes.
        arguments: Its further arguments.

    Raises:
        UsageError: No such file, module or name; calling it failed; or it does not return an nn.Module.
    """
    builder = _find(name)
    try:
        network = builder(**_filled(builder, signature) | arguments)
    except OnwardError:
        raise
    except Exception as error:  # user code can raise anything
        raise UsageError(f"building {name} failed: {type(error).__name__}: {reason_of(error)}") from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"{name} returned a {type(network).__name__}, expected an nn.Module.")
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


def free_parameters(name: str, signature: AnySignature) -> frozenset[str]:
    """Names of the parameters that the signature does not fill in.

    Raises:
        UsageError: No such file, module or name.
    """
    builder = _find(name)
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = {item.name for item in inspect.signature(builder).parameters.values() if item.kind in kinds}
    return frozenset(names - set(_filled(builder, signature)))


def module_of(name: str) -> ModuleType:
    """The module of user code, imported.

    Args:
        name: `FILE.py:NAME` or `package.module:NAME`.

    Raises:
        UsageError: There is no such file or module, or importing it failed.
    """
    place = name.rpartition(":")[0]
    return _import_file(Path(place)) if place.endswith(".py") else _import_module(place)


def _find(name: str) -> Callable[..., Any]:
    place, _, attribute = name.rpartition(":")
    module = module_of(name)
    found = getattr(module, attribute, None)
    if not callable(found):
        public = [
            key for key, value in vars(module).items() if isinstance(value, type) and issubclass(value, nn.Module)
        ]
        raise UsageError(
            f"{place} has no class or function {attribute!r}; its networks are: {', '.join(public) or 'none'}."
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
    _make_importable(path.parent)
    _make_importable(Path.cwd())
    if loaded is not None or not name.isidentifier() or _is_taken(name, path):
        raise UsageError(
            f"{path.name} cannot be imported: its name belongs to another module, or is not a Python identifier. "
            "Please rename the file."
        )
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        hint = _module_name(path) if isinstance(error, ImportError) and "relative import" in str(error) else ""
        raise UsageError(f"importing {path} failed: {type(error).__name__}: {reason_of(error)}.{hint}") from error
    return module


def _module_name(path: Path) -> str:
    """A hint for a file of a package, which imports others of it: the name by which Python knows it from here."""
    folder = Path.cwd()
    if not path.is_relative_to(folder):
        return " It is a file of a package: run the command in the package's folder, with --model package.module:NAME."
    return f" It is a file of a package: --model {'.'.join(path.relative_to(folder).with_suffix('').parts)}:NAME"


def _make_importable(folder: Path) -> None:
    """Put a folder on `sys.path` where Python puts that of a script: before what is installed.

    So no installed `tests` or `utils` hides the user's. The standard library stays before the folder. If the folder has
    a module with the name of a package that Onward needs, the folder comes last, because Onward imports many packages
    only when it uses them.
    """
    if str(folder) in sys.path:
        return
    installed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    first = next((at for at, place in enumerate(sys.path) if place in installed), len(sys.path))
    sys.path.insert(len(sys.path) if _hides_a_dependency(folder) else first, str(folder))


def _hides_a_dependency(folder: Path) -> bool:
    """Whether a module in the folder has the name of one of Onward's packages or of a package that it needs."""
    files, packages = folder.glob("*.py"), folder.glob("*/__init__.py")
    names = {path.stem for path in files} | {path.parent.name for path in packages}
    hidden = {name for name in names - sys.stdlib_module_names if PathFinder.find_spec(name)}
    if not hidden:
        return False
    owners, needed = metadata.packages_distributions(), _dependencies()
    return not hidden.isdisjoint({"onward", "onward_training", "onward_export"}) or any(
        _normalised(owner) in needed for name in hidden for owner in owners.get(name, ())
    )


def _dependencies() -> set[str]:
    """The installed distributions that Onward needs, with those of its extras."""
    found: set[str] = set()
    waiting = ["onward"]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
        waiting += [_normalised(text) for text in requirements if name == "onward" or "extra ==" not in text]
    return found


def _normalised(requirement: str) -> str:
    """The name in a requirement as it is compared. Source: packaging.python.org, "Names and normalization"."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", requirement, maxsplit=1)[0]).lower()


def _is_taken(name: str, path: Path) -> bool:
    spec = importlib.util.find_spec(name)
    return spec is not None and Path(spec.origin or "").resolve() != path


def _import_module(name: str) -> ModuleType:
    if not name:
        raise UsageError("there is no file or module before the colon, expected FILE.py:NAME or package.module:NAME.")
    _make_importable(Path.cwd())
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise UsageError(f"importing {name} failed: {type(error).__name__}: {reason_of(error)}") from error
