"""Deployable: the eval-mode module that is exported."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from onward.feed import Feed, arrays_of
from onward.parity import BATCH_SIZES, regroup
from onward.signature import AnySignature, Signature
from onward_export.hook_removal import without_hooks
from onward_export.plain_network import TABLES, plain_network, uncopyable
from onward_training.normalization import Normalize
from onward_training.tasks import network_task_of

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ByOutput", "Deployable", "TensorDeployable", "make_deployable", "run", "tensors_of"]

ByOutput = dict[str, NDArray[Any]]


class Deployable(nn.Module):
    """Raw pixels -> permute -> cast -> scale and shift -> model -> the outputs of the signature.

    The network is copied; the copy is converted to float32 and its hooks are removed. The caller's network keeps its
    mode, device, dtype and hooks.

    Args:
        network: Takes float32 `(batch, channels, height, width)`, or the tensors of the signature. Its task adapts it:
            a classifier runs without its final softmax or sigmoid (`onward_training.tasks`).
        signature: Mean, std, outputs and task. With interface `tensor` nothing is scaled or shifted here.

    Raises:
        NotExportable: A weight has no values, a module is quantised, or a hook changes the outputs.
        UsageError: The task cannot adapt the network.
    """

    def __init__(self, network: nn.Module, signature: AnySignature) -> None:
        super().__init__()
        takes_pixels = isinstance(signature, Signature) and signature.interface == "pixels"
        self.normalize = Normalize(signature) if takes_pixels else nn.Identity()  # type: ignore[arg-type]
        self.task = network_task_of(signature)
        self.model = self.task.adapt(without_hooks(plain_network(network), signature))
        self._shared = tuple(uncopyable(self.model).values())
        self.register_state_dict_post_hook(_leave_tensors)  # type: ignore[no-untyped-call]
        self.eval()
        self.requires_grad_(False)
        for item in self._unregistered():  # a trace records no constant that has a gradient
            item.requires_grad_(False)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """uint8 `(batch, height, width, channels)` -> `(batch, *dims)` each."""
        return self.task.outputs(self.model(self.normalize(image)))

    def _unregistered(self) -> Iterator[Tensor | nn.Module]:
        """Tensors and modules in attributes, lists and dictionaries of modules, of which PyTorch does not know."""
        shared = {id(item) for item in self._shared}
        for module in self.modules():
            held = [value for name, value in vars(module).items() if name not in TABLES and id(value) not in shared]
            for item in tree_leaves(held):
                if isinstance(item, nn.Module) or (isinstance(item, Tensor) and item.is_leaf):
                    yield item

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        made = memo[id(self)] = type(self).__new__(type(self))
        memo |= {id(item): item for item in self._shared}
        made.__dict__.update({name: copy.deepcopy(value, memo) for name, value in vars(self).items()})
        return made.eval()  # the copy of a torch.fx module is in training mode


class TensorDeployable(Deployable):
    """One or several tensors -> model -> the outputs of the signature."""

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Each `(batch, …)` -> `(batch, *dims)` each."""
        return self.task.outputs(self.model(*inputs))


def make_deployable(network: nn.Module, signature: AnySignature) -> Deployable:
    """The deployable of a network; its arguments and errors are those of `Deployable`."""
    kind = Deployable if isinstance(signature, Signature) else TensorDeployable
    return kind(network, signature)


def run(module: Deployable, samples: Feed, batch_size: int | Sequence[int] = max(BATCH_SIZES)) -> ByOutput:
    """Run a deployable, in its own precision, in batches: output name -> `(samples, *dims)`."""
    names = module.task.signature.output_names

    def run_batch(batch: Feed) -> ByOutput:
        outputs = module(*tensors_of(batch, module))
        return {name: out.numpy() for name, out in zip(names, outputs, strict=True)}

    return regroup(run_batch, samples, batch_size)


def tensors_of(feed: Feed, module: nn.Module) -> tuple[Tensor, ...]:
    """A feed as tensors for a module; floating-point numbers in the module's own precision."""
    dtype = next((item.dtype for item in module.state_dict().values() if item.is_floating_point()), torch.float32)
    tensors = (torch.tensor(np.ascontiguousarray(array)) for array in arrays_of(feed))
    return tuple(tensor.to(dtype) if tensor.is_floating_point() else tensor for tensor in tensors)


def _leave_tensors(module: nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Take out what modules add to their state beside tensors (`get_extra_state`)."""
    for name in [name for name, item in state.items() if not isinstance(item, Tensor)]:
        del state[name]
