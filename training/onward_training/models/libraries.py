"""Libraries: `torchvision:NAME` and `timm:NAME`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from onward.signature import Signature
from onward_training.model_names import unknown_network

__all__ = ["build_without_weights", "check_network", "timm_network", "torchvision_network"]

#: These constructors warn unless `init_weights` says whether to initialise the weights.
NEEDS_INIT_WEIGHTS = ("googlenet", "inception_v3")


def torchvision_network(name: str, signature: Signature, **arguments: Any) -> nn.Module:
    """A classification network of torchvision, with random weights.

    Args:
        name: One of `torchvision.models.list_models()`.
        signature: Gives the number of classes.
        arguments: Further arguments of torchvision's builder.

    Raises:
        UsageError: torchvision has no such classification network.

    Source: torchvision, `torchvision.models.get_model_builder`.
    """
    from torchvision import models

    check_network("torchvision", name)
    if name in NEEDS_INIT_WEIGHTS:
        arguments = {"init_weights": True} | arguments
    network: nn.Module = models.get_model_builder(name)(weights=None, num_classes=signature.num_classes, **arguments)
    return network


def timm_network(name: str, signature: Signature, **arguments: Any) -> nn.Module:
    """A network of timm, with random weights, for the signature's number of channels and classes.

    Raises:
        UsageError: timm has no such network.

    Source: timm, `create_model`.
    """
    import timm

    check_network("timm", name)
    known = {"num_classes": signature.num_classes, "in_chans": signature.network_channels}
    network: nn.Module = timm.create_model(name, pretrained=False, **known | arguments)
    return network


def build_without_weights(library: str, name: str, num_classes: int) -> nn.Module:
    """A network of a library, to look at its names and shapes: its weights are not initialised as they should be."""
    if library == "timm":
        import timm

        network: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes)
        return network
    from torchvision import models

    fast = {"init_weights": False} if name in NEEDS_INIT_WEIGHTS else {}
    built: nn.Module = models.get_model_builder(name)(weights=None, num_classes=num_classes, **fast)
    return built


def check_network(library: str, name: str) -> None:
    """Check that a library has a network.

    Raises:
        UsageError: It has none of that name.
    """
    if library == "timm":
        import timm

        _check_name(name.partition(".")[0], timm.list_models(), library)
    else:
        from torchvision import models

        _check_name(name, models.list_models(module=models), library)


def _check_name(name: str, names: Sequence[str], library: str) -> None:
    if name not in names:
        raise unknown_network(library, name, names)
