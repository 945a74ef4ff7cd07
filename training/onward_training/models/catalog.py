"""Catalog: build a network by the name that `--model` gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from importlib import import_module
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from onward.errors import UsageError, reason_of
from onward.signature import AnySignature, Signature, of_images
from onward_training.model_names import ARCHITECTURES, Architecture, check_model_name, is_user_code
from onward_training.models.build_budget import BuildBudget
from onward_training.models.final_activation import probe_inputs
from onward_training.models.libraries import timm_network, torchvision_network
from onward_training.models.output_selection import logits_of
from onward_training.models.user_code import user_network

__all__ = ["build", "build_checked"]

#: The name of the number of classes in the architectures here and in torchvision's.
NUM_CLASSES = "num_classes"

Builder = Callable[..., nn.Module]
S = TypeVar("S", bound=AnySignature)


def _builder(architecture: Architecture) -> Builder:
    """(signature, **arguments) -> network."""
    module, _, attribute = architecture.place.partition(":")
    kind: Builder = getattr(import_module(f"onward_training.models.{module}"), attribute)
    match architecture.takes:
        case "inputs":
            return lambda signature, **arguments: kind(_num_inputs(signature), **arguments)
        case "inputs and classes":
            return lambda signature, **arguments: kind(_num_inputs(signature), signature.num_classes, **arguments)
        case "image and classes":
            return lambda signature, **arguments: kind(
                (signature.network_channels, signature.height, signature.width), signature.num_classes, **arguments
            )


def _num_inputs(signature: Signature) -> int:
    return signature.network_channels * signature.height * signature.width


def build(
    name: str,
    signature: AnySignature,
    arguments: Mapping[str, Any] | None = None,
    *,
    weights: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """A new network with random weights.

    Args:
        name: One of `ARCHITECTURES`, `torchvision:NAME`, `timm:NAME`, `FILE.py:NAME` or `package.module:NAME`.
        signature: Gives the sizes of the first and of the last layer.
        arguments: Further arguments of the architecture, e.g. `{"hidden": [512, 256]}`.
        weights: The weights of the file that the arguments come from, if they do.

    Raises:
        CheckpointError: The network takes far more memory than `weights`.
        UsageError: There is no such network, or it does not take these arguments.
    """
    budget = nullcontext() if weights is None else BuildBudget(name, arguments or {}, weights)
    with budget:
        return _build(name, signature, arguments)


def _build(name: str, signature: AnySignature, arguments: Mapping[str, Any] | None) -> nn.Module:
    check_model_name(name)
    if is_user_code(name):
        return user_network(name, signature, **(arguments or {}))
    library, _, rest = name.partition(":")
    if name in ARCHITECTURES:
        builder = _builder(ARCHITECTURES[name])
    else:
        make = torchvision_network if library == "torchvision" else timm_network
        builder = lambda signature, **arguments: make(rest, signature, **arguments)  # noqa: E731
    images = of_images(signature)
    try:
        return builder(images, **_without_num_classes(arguments or {}, images))
    except (TypeError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"model {name!r} does not take the arguments {dict(arguments or {})}: {reason_of(error)}."
        ) from error


def _without_num_classes(arguments: Mapping[str, Any], signature: Signature) -> Mapping[str, Any]:
    """The arguments without the number of classes, which the labels state already.

    Raises:
        UsageError: It is another number.
    """
    stated = arguments.get(NUM_CLASSES, signature.num_classes)
    if stated != signature.num_classes:
        raise UsageError(
            f"--model-args states {NUM_CLASSES} {stated}, but there are {signature.num_classes} labels, which decide "
            f"it: leave {NUM_CLASSES} out, or give as many labels."
        )
    return {name: value for name, value in arguments.items() if name != NUM_CLASSES}


def build_checked(
    name: str,
    signature: S,
    arguments: Mapping[str, Any] | None = None,
    *,
    output: str | None = None,
    weights: Mapping[str, Tensor] | None = None,
) -> tuple[nn.Module, S]:
    """A new network, after a trial run on inputs of the signature; and the network's signature.

    If the images are grey and the network's first convolution takes three channels, the returned signature repeats the
    channel.

    Raises:
        UsageError: As `build`; or the network does not run on such inputs, or returns another number of values.
    """
    network = build(name, signature, arguments, weights=weights)
    first = next((module for module in network.modules() if isinstance(module, nn.Conv2d)), None)
    is_grey = isinstance(signature, Signature) and signature.network_channels == 1
    if isinstance(signature, Signature) and is_grey and first is not None and first.in_channels == 3:
        signature = replace(signature, repeat=3, mean=signature.mean * 3, std=signature.std * 3)
        network = build(name, signature, arguments, weights=weights)
    _check_runs(name, network, signature, output)
    return network, signature


def _check_runs(name: str, network: nn.Module, signature: AnySignature, output_name: str | None) -> None:
    inputs = probe_inputs(signature, 2)
    was_training = network.training
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            output = logits_of(network.eval()(*inputs), output_name)
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error
    except Exception as error:  # user code can raise anything
        shapes = " and ".join(str(tuple(item.shape[1:])) for item in inputs)
        what = (
            f"images {shapes} of (channels, height, width)" if isinstance(signature, Signature) else f"inputs {shapes}"
        )
        raise UsageError(f"{name} does not run on {what}: {reason_of(error)}") from error
    network.train(was_training)
    widths = {signature.num_classes} | ({1} if signature.num_classes == 2 else set())
    if output.ndim == 1 and 1 in widths:
        return
    if output.ndim != 2 or output.shape[1] not in widths:
        raise UsageError(
            f"{name} returns shape {tuple(output.shape)} for 2 samples, expected (2, {signature.num_classes}) for "
            f"{signature.num_classes} labels. Does it take the number of classes (`num_classes`)?"
        )
