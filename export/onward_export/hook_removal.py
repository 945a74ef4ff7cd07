"""Hook removal: hooks on a module's calls are not exported, so they may not change its outputs."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from onward.errors import NotExportable, reason_of
from onward.signature import AnySignature
from onward_export.plain_network import copy_of
from onward_training.models.final_activation import probe_inputs

__all__ = ["without_hooks"]

HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_hooks", "_backward_pre_hooks")
#: Number of random samples on which a network is compared with and without its hooks.
NUM_PROBED = 2


def without_hooks(network: nn.Module, signature: AnySignature) -> nn.Module:
    """The network itself without its hooks, after a check that they do not change its outputs.

    Raises:
        NotExportable: A hook changes the outputs; it is named.
    """
    hooked = list(_hooked(network))
    if not hooked:
        return network
    with_hooks = copy_of(network)
    for _, _, hooks in hooked:
        hooks.clear()
    if _same(with_hooks, network, signature):
        return network
    path, hook = _culprit(with_hooks, signature)
    raise NotExportable(
        f"{hook} on {path or 'the network itself'} changes the outputs, and hooks are not exported. Move its "
        "computation into `forward`, or remove it (`handle.remove()`)."
    )


def _hooked(network: nn.Module) -> Iterator[tuple[str, str, MutableMapping[int, Any]]]:
    for path, module in network.named_modules():
        for kind in HOOKS:
            hooks = getattr(module, kind)
            if hooks:
                yield path, kind, hooks


def _culprit(network: nn.Module, signature: AnySignature) -> tuple[str, str]:
    """The first hook whose removal changes the outputs; the first of all where only several together do."""
    found = []
    for path, kind, hooks in _hooked(network):
        name = "a forward pre-hook" if "pre" in kind else "a forward hook"
        hook = next(iter(hooks.values()))
        found.append((path, f"{name} ({getattr(hook, '__qualname__', type(hook).__name__)})"))
        fewer = copy_of(network)
        getattr(fewer.get_submodule(path), kind).clear()
        if not _same(network, fewer, signature):
            return found[-1]
    return found[0]


def _same(one: nn.Module, other: nn.Module, signature: AnySignature) -> bool:
    some = next(one.parameters(), torch.zeros(()))
    inputs = [item.to(some.dtype) if item.is_floating_point() else item for item in probe_inputs(signature, NUM_PROBED)]
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        outputs = []
        for network in (one, other):
            torch.manual_seed(0)
            try:
                outputs.append([leaf for leaf in tree_leaves(network(*inputs)) if isinstance(leaf, Tensor)])
            except (RuntimeError, ValueError, TypeError, AttributeError, IndexError, AssertionError) as error:
                outputs.append([torch.tensor(list(reason_of(error).encode()))])
    return len(outputs[0]) == len(outputs[1]) and all(
        a.shape == b.shape and torch.equal(a, b) for a, b in zip(*outputs, strict=True)
    )
