"""Libraries: `torchvision:NAME` and `timm:NAME`, and what torchvision knows of its own weight files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from onward.errors import UsageError
from onward.signature import Preprocess, Signature

__all__ = ["LIBRARIES", "signature_of_weights", "timm_network", "torchvision_network"]

LIBRARIES = ("torchvision", "timm")
#: Their constructors want to be told whether to draw their weights.
DRAWS_WEIGHTS = ("googlenet", "inception_v3")


def torchvision_network(name: str, signature: Signature, **arguments: Any) -> nn.Module:
    """A classification network of torchvision, with random weights.

    Args:
        name: As `torchvision.models.list_models` has it.
        signature: Its number of classes decides the last layer.
        arguments: As the builder takes them.

    Raises:
        UsageError: torchvision has no such classification network.

    Source: torchvision, `torchvision.models.get_model_builder`.
    """
    from torchvision import models

    _check_name(name, models.list_models(module=models), "torchvision")
    if name in DRAWS_WEIGHTS:
        arguments = {"init_weights": True} | arguments
    network: nn.Module = models.get_model_builder(name)(weights=None, num_classes=signature.num_classes, **arguments)
    return network


def timm_network(name: str, signature: Signature, **arguments: Any) -> nn.Module:
    """A network of timm, with random weights, for as many channels as the network is to take.

    Raises:
        UsageError: timm is not installed, or has no such network.

    Source: timm, `create_model`.
    """
    try:
        import timm
    except ModuleNotFoundError as error:
        raise UsageError("--model timm:NAME needs timm, which is not installed: pip install 'onward[timm]'.") from error
    _check_name(name.partition(".")[0], timm.list_models(), "timm")
    known = {"num_classes": signature.num_classes, "in_chans": signature.network_channels}
    network: nn.Module = timm.create_model(name, pretrained=False, **known | arguments)
    return network


def signature_of_weights(name: str, path: Path) -> tuple[Signature, str, bool, dict[str, Any]]:
    """What torchvision's metadata say of a weight file: size, resize rule, mean, std, the names of the classes.

    Which of a network's weights the file holds is told by its name, as torchvision publishes it
    (`resnet50-0676ba61.pth`); under any other name the default ones are taken.

    Args:
        name: Of the network.
        path: The file.

    Returns:
        The signature, the name of the weights (`IMAGENET1K_V1`), whether the file has their name, and arguments that
        the builder gives with them.

    Raises:
        UsageError: torchvision has no such network, or these are no classifier's weights.

    Source: torchvision, `torchvision.models.get_model_weights`, `WeightsEnum.meta`, `ImageClassification`.
    """
    from torchvision import models

    _check_name(name, models.list_models(module=models), "torchvision")
    entries = list(models.get_model_weights(name))
    default = models.get_model_weights(name).DEFAULT
    named = next((item for item in entries if item.url.rpartition("/")[2] == path.name), None)
    entry = named or default
    if entry.meta["categories"] is None:
        raise UsageError(f"{path.name} are torchvision's {entry.name} of {name}, which name no classes.")
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
    # these two were trained on Inception's own scale, which their builders add only beside weights
    return signature, entry.name, named is not None, {"transform_input": True} if name in DRAWS_WEIGHTS else {}


def _check_name(name: str, names: Sequence[str], library: str) -> None:
    from difflib import get_close_matches

    if name not in names:
        near = get_close_matches(name, names, 3, 0.5)
        raise UsageError(
            f"{library} has no classification network {name!r}"
            + (f"; near it are {', '.join(near)}." if near else f"; it has {len(names)}, e.g. {', '.join(names[:3])}.")
        )
