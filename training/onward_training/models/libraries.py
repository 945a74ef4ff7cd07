"""Libraries: `torchvision:NAME`, `timm:NAME`, and the signature that torchvision publishes for its weights files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from onward.errors import UsageError
from onward.signature import Preprocess, Signature
from onward_training.model_names import unknown_network

__all__ = ["build_without_weights", "signature_of_weights", "timm_network", "torchvision_network"]

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

    _check_name(name, models.list_models(module=models), "torchvision")
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

    _check_name(name.partition(".")[0], timm.list_models(), "timm")
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


def signature_of_weights(name: str, path: Path) -> tuple[Signature, str, bool, dict[str, Any]]:
    """The signature of one of torchvision's weights files: size, resize rule, mean, std, names of the classes.

    The file's name decides which of the network's weights it holds, e.g. `resnet50-0676ba61.pth`. For any other name,
    the default weights are assumed.

    Args:
        name: Of the network.
        path: The file.

    Returns:
        The signature, the name of the weights (e.g. `IMAGENET1K_V1`), whether the file has their name, and arguments
        that belong to these weights.

    Raises:
        UsageError: torchvision has no such network, or the weights are not those of a classifier.

    Source: torchvision, `torchvision.models.get_model_weights`, `WeightsEnum.meta`, `ImageClassification`.
    """
    from torchvision import models

    _check_name(name, models.list_models(module=models), "torchvision")
    entries = list(models.get_model_weights(name))
    default = models.get_model_weights(name).DEFAULT
    named = next((item for item in entries if item.url.rpartition("/")[2] == path.name), None)
    entry = named or default
    if entry.meta["categories"] is None:
        raise UsageError(
            f"{path.name} holds torchvision's {entry.name} of {name}, which have no class names: they are not a "
            f"classifier's weights."
        )
    transform = entry.transforms()
    (side,), (shorter,) = transform.crop_size, transform.resize_size
    signature = Signature(
        height=side,
        width=side,
        channels=3,
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        labels=tuple(entry.meta["categories"]),
        preprocess=Preprocess("shorter-side", shorter, transform.interpolation.value),
    )
    # these two were trained on pixels in Inception's scale; their builders convert to it only if they load weights
    return signature, entry.name, named is not None, {"transform_input": True} if name in NEEDS_INIT_WEIGHTS else {}


def _check_name(name: str, names: Sequence[str], library: str) -> None:
    if name not in names:
        raise unknown_network(library, name, names)
