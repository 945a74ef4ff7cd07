"""Model names: what `--model` may be, checked without importing PyTorch.

    classifier, cnn                           models/architectures.py
    neuron, two-layers, perceptron,
    perceptron-module, sequential, network    models/course.py
    torchvision:NAME, timm:NAME               models/libraries.py
    FILE.py:NAME, package.module:NAME         models/user_code.py

`models/catalog.py` builds the network of a name.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Literal

from onward.errors import UsageError, did_you_mean

__all__ = [
    "ARCHITECTURES",
    "LIBRARIES",
    "Architecture",
    "check_model_name",
    "is_user_code",
    "naming",
    "network_sources",
    "registered_networks",
    "unknown_network",
]

LIBRARIES = ("torchvision", "timm")
#: How both libraries register the function that builds a network; torchvision's may state another name than its own.
REGISTERED = re.compile(
    r"^@register_model(?:\((?:name=[\"'](\w+)[\"'])?\))?\n(?:@.*\n|[ \t)].*\n)*?def (\w+)", re.MULTILINE
)


@dataclass(frozen=True)
class Architecture:
    """One of Onward's own networks.

    Args:
        place: Its module in `onward_training.models`, and its class or function.
        takes: Which sizes its first arguments are.
    """

    place: str
    takes: Literal["inputs", "inputs and classes", "image and classes"]


#: Checkpoints name their architecture by these names.
ARCHITECTURES = {
    "neuron": Architecture("course:Neuron", "inputs"),
    "two-layers": Architecture("course:TwoLayers", "inputs"),
    "perceptron": Architecture("course:Perceptron", "inputs and classes"),
    "perceptron-module": Architecture("course:PerceptronModule", "inputs and classes"),
    "sequential": Architecture("course:sequential", "inputs and classes"),
    "network": Architecture("course:Network", "inputs and classes"),
    "classifier": Architecture("architectures:ClassifierNetwork", "inputs and classes"),
    "cnn": Architecture("architectures:CNN", "image and classes"),
}


def is_user_code(name: str) -> bool:
    """Whether the name is that of user code: `FILE.py:NAME` or `package.module:NAME`."""
    return ":" in name and name.partition(":")[0] not in LIBRARIES


def naming(name: str) -> tuple[str, ...]:
    """What a command about a checkpoint needs, if its network is user code: `--model NAME`; else nothing."""
    return ("--model", name) if is_user_code(name) else ()


def check_model_name(name: str) -> None:
    """Check a name as far as that is possible without importing a library or the user's code.

    Raises:
        UsageError: There is no such network, its library is not installed, or its file does not exist.
    """
    library, _, rest = name.partition(":")
    if name in ARCHITECTURES:
        return
    if library in LIBRARIES and library != name:
        _check_library(library, rest)
    elif is_user_code(name):
        path = Path(name.rpartition(":")[0])
        if path.suffix == ".py" and not path.is_file():
            raise UsageError(f"{path} does not exist.")
    else:
        raise UsageError(
            f"model {name!r} is unknown, expected one of {', '.join(ARCHITECTURES)}, torchvision:NAME, timm:NAME, "
            f"FILE.py:NAME or package.module:NAME.{_suggestion(name)}"
        )


def _check_library(library: str, name: str) -> None:
    if library in sys.modules:  # it knows its networks itself, those that a program has added, too
        return
    sources = _sources(library)
    if sources is None:
        raise UsageError(
            f"--model {library}:NAME needs {library}, which is not installed: pip install "
            f"'onward[{'timm' if library == 'timm' else 'training'}]'."
        )
    # a name that its source code contains may be registered in a way that is unknown here: the library decides then
    word = name.partition(".")[0] if library == "timm" else name
    if sources and not any(re.search(rf"\b{re.escape(word)}\b", text) for text in sources):
        raise unknown_network(library, name, registered_networks(library))


def registered_networks(library: str) -> dict[str, str]:
    """The classification networks in the source code of an installed library: name -> the module's name.

    It is empty if the library is not installed, or its source code is not there as files.
    """
    found: dict[str, str] = {}
    for path, text in (_files(library) or {}).items():
        found |= {stated or function: path.stem for stated, function in REGISTERED.findall(text)}
    return found


def network_sources(library: str) -> dict[str, str]:
    """The modules of an installed library's classification networks: name -> source code."""
    return {path.stem: text for path, text in (_files(library) or {}).items()}


def unknown_network(library: str, name: str, known: Sequence[str] | dict[str, str]) -> UsageError:
    """The error for a name that a library does not have, with the nearest names that it has."""
    near = get_close_matches(name, known, 3, 0.5)
    return UsageError(
        f"{library} has no classification network {name!r}"
        + (f"; nearest: {', '.join(near)}." if near else f"; it has {len(known)}, e.g. {', '.join(list(known)[:3])}.")
    )


def _suggestion(name: str) -> str:
    if name.endswith(".py") and Path(name).is_file():
        return f" {name}:NAME is the network NAME in that file."
    exact = [f"{library}:{name}" for library in LIBRARIES if name in registered_networks(library)]
    if exact:
        return f" Did you mean {' or '.join(exact)}?"
    libraries = {f"{library}:{other}": other for library in LIBRARIES for other in registered_networks(library)}
    near = get_close_matches(name, libraries.values(), 1, 0.8)
    return did_you_mean(name, ARCHITECTURES) or (
        f" Did you mean {next(full for full, other in libraries.items() if other == near[0])}?" if near else ""
    )


def _sources(library: str) -> tuple[str, ...] | None:
    files = _files(library)
    return None if files is None else tuple(files.values())


@cache
def _files(library: str) -> dict[Path, str] | None:
    """The source files of the library's classification networks; None if it is not installed."""
    spec = PathFinder.find_spec(library)  # it imports nothing
    if spec is None:
        return None
    places = [Path(place) / "models" for place in spec.submodule_search_locations or ()]
    return {path: path.read_text(encoding="utf-8") for place in places for path in sorted(place.glob("*.py"))}
