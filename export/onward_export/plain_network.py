"""Plain network: a copy of a network in float32 and eval mode, without what exporters cannot take."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo import OptimizedModule
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from onward.errors import NotExportable, reason_of
from onward_export.scripted import unscripted

__all__ = ["TABLES", "copy_of", "plain_network", "uncopyable"]

#: Attributes of a module in which PyTorch keeps what is registered.
TABLES = ("_parameters", "_buffers", "_modules")
#: Modules that change where or how another module runs, and not what it computes -> its name in them.
WRAPPERS = {OptimizedModule: "_orig_mod", DataParallel: "module", DistributedDataParallel: "module"}


def plain_network(network: nn.Module) -> nn.Module:
    """A copy of the network on the CPU, in float32 and eval mode. The caller's network is left as it is.

    Wrappers such as that of `torch.compile` are taken off. Weights that are computed at each call (weight norm,
    spectral norm, an embedding's largest norm) become their values. Scripted modules become modules that call their
    function. What cannot be copied, such as a lock or a file, is shared with the caller's.

    Raises:
        NotExportable: A weight has no values or is sparse, or a module is quantised.
    """
    _check_values(network)
    _check_not_quantised(network)
    plain = without_wrappers(copy_of(network))
    return without_computed_weights(unscripted(plain).cpu().float().eval())


def copy_of(network: nn.Module) -> nn.Module:
    """A deep copy in eval mode, which that of a torch.fx module is not. It shares what cannot be copied, such as a lock
    or a file."""
    with torch.no_grad():
        try:
            return copy.deepcopy(network).eval()
        except Exception:  # an attribute can raise anything
            pass
        try:
            return copy.deepcopy(network, uncopyable(network)).eval()
        except Exception as error:
            raise NotExportable(
                f"the network cannot be copied (`copy.deepcopy`): {reason_of(error)}. Remove what cannot be copied "
                f"from {type(network).__name__}, or give its class a `__deepcopy__`."
            ) from error


def uncopyable(network: nn.Module) -> dict[int, Any]:
    """Attributes of modules that cannot be copied: id -> what stands for them in a copy, themselves as a rule."""
    return {
        id(value): value.detach() if isinstance(value, Tensor) else value
        for module in network.modules()
        for name, value in vars(module).items()
        if name not in TABLES and not _can_be_copied(value)
    }


def without_wrappers(network: nn.Module) -> nn.Module:
    """Replace wrapped modules by what they wrap, and calls that `Module.compile` compiles by plain ones."""
    for module in list(network.modules()):
        module._compiled_call_impl = None
        for name, child in module._modules.items():
            if child is not None:
                module._modules[name] = _wrapped(child)
    return _wrapped(network)


def _wrapped(module: nn.Module) -> nn.Module:
    while name := next((name for kind, name in WRAPPERS.items() if isinstance(module, kind)), ""):
        module = getattr(module, name)
    return module


def without_computed_weights(network: nn.Module) -> nn.Module:
    """Replace weights that are computed at each call by their values."""
    for module in list(network.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, str(name), leave_parametrized=True)
        for key, hook in list(module._forward_pre_hooks.items()):
            if isinstance(hook, (WeightNorm, SpectralNorm)):
                with torch.no_grad():
                    hook.remove(module)
                del module._forward_pre_hooks[key]
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) and module.max_norm is not None:
            module.weight.data = torch.renorm(module.weight.data, module.norm_type, 0, module.max_norm)
            module.max_norm = None
    return network


def _can_be_copied(value: Any) -> bool:
    try:
        copy.deepcopy(value)
    except Exception:  # it can raise anything
        return False
    return True


def _check_values(network: nn.Module) -> None:
    state = network.state_dict().items()
    without = [name for name, tensor in state if getattr(tensor, "is_meta", False)]
    if without:
        raise NotExportable(
            f"{len(without)} of {len(state)} weights are on the meta device and have no values, {without[0]} first: "
            f"load the weights (`load_state_dict(..., assign=True)`) before the export."
        )
    sparse = next((name for name, tensor in state if isinstance(tensor, Tensor) and tensor.layout != torch.strided), "")
    if sparse:
        raise NotExportable(
            f"{sparse} is a sparse tensor, which none of the formats holds. Store it as `{sparse}.to_dense()` and "
            f"multiply with `@` in place of `torch.sparse.mm`."
        )


def _check_not_quantised(network: nn.Module) -> None:
    found = next(_quantised(network), None)
    if found is not None:
        path, module = found
        raise NotExportable(
            f"{path or 'the network'} is quantised ({type(module).__module__}.{type(module).__name__}), and integers "
            f"cannot be compared with float64. Export the network as it was before `quantize_dynamic`, `prepare` or "
            f"`convert`, and quantise the ONNX file afterwards."
        )


def _quantised(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for path, module in network.named_modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        held = [*vars(module).values(), *module._parameters.values(), *module._buffers.values()]
        kinds = {kind.__module__ for kind in type(module).__mro__}
        if any(kind.startswith("torch.ao.quantization") for kind in kinds) or any(map(_is_packed, held)):
            yield path, module


def _is_packed(value: Any) -> bool:
    return isinstance(value, torch.ScriptObject) or (isinstance(value, Tensor) and value.is_quantized)
