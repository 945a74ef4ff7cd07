"""Deployable: the eval-mode module that is exported."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils import parametrize

from onward.errors import NotExportable
from onward.feed import Feed, arrays_of
from onward.parity import BATCH_SIZES, regroup
from onward.signature import AnySignature, Signature
from onward_export.hook_removal import without_hooks
from onward_training.normalization import Normalize
from onward_training.tasks import network_task_of

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
        NotExportable: A weight has no values, or a hook changes the outputs.
        UsageError: The task cannot adapt the network.
    """

    def __init__(self, network: nn.Module, signature: AnySignature) -> None:
        super().__init__()
        _check_values(network)
        takes_pixels = isinstance(signature, Signature) and signature.interface == "pixels"
        self.normalize = Normalize(signature) if takes_pixels else nn.Identity()  # type: ignore[arg-type]
        plain = without_hooks(_without_parametrizations(copy.deepcopy(network).cpu().float().eval()), signature)
        self.task = network_task_of(signature)
        self.model = self.task.adapt(plain)
        self.eval()
        self.requires_grad_(False)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """uint8 `(batch, height, width, channels)` -> `(batch, *dims)` each."""
        return self.task.outputs(self.model(self.normalize(image)))


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


def _without_parametrizations(network: nn.Module) -> nn.Module:
    """Replace weights that are computed at each call, such as those of a weight norm, by their values."""
    for module in list(network.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, str(name), leave_parametrized=True)
    return network


def _check_values(network: nn.Module) -> None:
    state = network.state_dict().items()
    without = [name for name, tensor in state if getattr(tensor, "is_meta", False)]
    if without:
        raise NotExportable(
            f"{len(without)} of {len(state)} weights are on the meta device and have no values, {without[0]} first: "
            f"load the weights (`load_state_dict(..., assign=True)`) before the export."
        )
