"""Family: which networks of torchvision or timm have exactly the tensors of a weights file, by names and shapes.

The networks are built on PyTorch's meta device, which takes no memory. Only those are built whose source code contains
the parts of the file's names.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from onward_training.external.weights import BATCH_COUNTER
from onward_training.model_names import LIBRARIES, network_sources, registered_networks
from onward_training.models.libraries import build_without_weights

__all__ = ["Family", "find_family"]

#: timm has files with 200 networks; what takes longer is not found.
MAX_SECONDS = 10.0
#: Share of the parts of names that must be in the source code. Some come from modules that it imports.
MIN_SHARE = 0.6
#: Of ImageNet: networks are built with so many outputs, and a file may have another number.
PUBLISHED_CLASSES = 1000

Shapes = dict[str, tuple[int, ...]]


class _Uninitialised(TorchFunctionMode):
    """Leave out what fills tensors in place: without values there is nothing to fill, and it takes most of the time."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name.endswith("_") and not name.endswith("__") and args and isinstance(args[0], Tensor):
            return args[0]
        return func(*args, **(kwargs or {}))


@dataclass(frozen=True)
class Family:
    """A network that has exactly these tensors.

    Args:
        model: For `--model`, e.g. `torchvision:resnet18`.
        prefix: What the file's names begin with, e.g. `backbone.`; "" if nothing.
        num_classes: Outputs of the last layer.
    """

    model: str
    prefix: str
    num_classes: int


def find_family(state: Mapping[str, Tensor]) -> Family | None:
    """The first network found that has these names and shapes; None if there is none, or the search took too long."""
    ends = time.perf_counter() + MAX_SECONDS
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items() if not name.endswith(BATCH_COUNTER)}
    if not shapes:
        return None
    candidates = {
        prefix: {name.removeprefix(prefix): shape for name, shape in shapes.items()}
        for prefix in _common_prefixes(list(shapes))
    }
    for library in LIBRARIES:
        for name in _likely(library, list(candidates.values())[-1]):
            if time.perf_counter() > ends:
                return None
            own = _shapes_of(library, name)
            for prefix, bare in candidates.items():
                if num_classes := _num_classes(own, bare):
                    return Family(f"{library}:{name}", prefix, num_classes)
    return None


def _num_classes(own: Shapes, file: Shapes) -> int | None:
    """The number of outputs in the file, if it has the network's tensors and only the last layer's size differs."""
    if own.keys() != file.keys():
        return None
    others = {(own[name], file[name]) for name in own if own[name] != file[name]}
    counts = {shape[0] for _, shape in others if shape}
    alike = all(one[:1] == (PUBLISHED_CLASSES,) and one[1:] == other[1:] and other for one, other in others)
    return (counts or {PUBLISHED_CLASSES}).pop() if alike and len(counts) <= 1 else None


def _common_prefixes(names: list[str]) -> Iterator[str]:
    """ "", `model.` and `model.backbone.`, if every name begins with them."""
    prefix = ""
    while True:
        yield prefix
        first = names[0].removeprefix(prefix).partition(".")[0]
        prefix += f"{first}."
        if not all(name.startswith(prefix) for name in names):
            return


def _likely(library: str, shapes: Shapes) -> list[str]:
    """Networks whose file contains most parts of the names, the likeliest files first."""
    parts = {re.sub(r"\d+$", "", part) for name in shapes for part in name.split(".")} - {"", "weight", "bias"}
    if not parts:
        return []
    share = {
        module: sum(part in text for part in parts) / len(parts) for module, text in network_sources(library).items()
    }
    networks = registered_networks(library)
    likely = [name for name, module in networks.items() if share[module] >= MIN_SHARE]
    return sorted(likely, key=lambda name: -share[networks[name]])


def _shapes_of(library: str, name: str) -> Shapes:
    try:
        with torch.device("meta"), _Uninitialised(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network: nn.Module = build_without_weights(library, name, PUBLISHED_CLASSES)
    except Exception:  # a network that needs other arguments, or that cannot be built without values
        return {}
    return {key: tuple(item.shape) for key, item in network.state_dict().items() if not key.endswith(BATCH_COUNTER)}
