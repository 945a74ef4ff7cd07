"""torchvision's members: every classification builder, with the figures that torchvision publishes."""

from __future__ import annotations

from typing import Any

from benchmarks.zoo.source import Member, Source

__all__ = ["TORCHVISION"]

#: torchvision's networks halve an image five times, and some of them need whole patches of 32 or 16 pixels.
STEP = 32


def members(max_gmacs: float) -> list[Member]:
    """Every classification builder of torchvision, the cheapest first.

    Args:
        max_gmacs: A network with more multiply-adds gets smaller images, where the architecture allows.

    Source: torchvision, `WeightsEnum.meta`.
    """
    from torchvision import models

    found = []
    for name in models.list_models(module=models):
        weights = models.get_model_weights(name).DEFAULT
        (native,) = weights.transforms().crop_size
        native_gmacs = float(weights.meta["_ops"])
        # ViT's image_size is an argument, and Swin pads its windows, though their metadata name no smaller size
        smallest = STEP if name.startswith(("vit", "swin")) else max(weights.meta["min_size"])
        side = _side(native, smallest, native_gmacs, max_gmacs)
        gmacs = native_gmacs * (side / native) ** 2
        found.append(Member(name, side, native, gmacs, int(weights.meta["num_params"])))
    return sorted(found, key=lambda member: (member.gmacs, member.name))


def build(member: Member) -> tuple[Any, Any]:
    """The network with torchvision's random weights, and the signature of its published weights."""
    from onward.signature import Signature
    from onward_training.models.libraries import torchvision_network
    from onward_training.models.published_weights import published_of

    published = published_of(f"torchvision:{member.name}")[0]
    arguments = dict(published.arguments)
    neutral = Signature(member.side, member.side, 3, (0.0,) * 3, (1.0,) * 3, published.labels())
    signature = published.preprocessing().on(neutral)
    if member.name.startswith("vit"):
        arguments["image_size"] = member.side
    elif member.name.startswith("maxvit"):
        arguments["input_size"] = (member.side, member.side)
    return torchvision_network(member.name, signature, **arguments), signature


def _side(native: int, smallest: int, gmacs: float, max_gmacs: float) -> int:
    if gmacs <= max_gmacs:
        return native
    affordable = int(native * (max_gmacs / gmacs) ** 0.5) // STEP * STEP
    return min(native, max(affordable, -(-smallest // STEP) * STEP))


TORCHVISION = Source("torchvision", members, build)
