"""Freezing: for the first epochs only the head of a network is trained, so that a new one does not disturb the rest."""

from __future__ import annotations

from torch import nn

__all__ = ["Backbone"]


class Backbone:
    """All of a network but its head: the last layer, with the parameters of the classifier.

    A frozen layer keeps its weights and the statistics of batch normalisation. Layers of dropout stay active.

    Args:
        network: Its parameters that require no gradient now never will.
    """

    def __init__(self, network: nn.Module) -> None:
        head = {id(parameter) for parameter in _head(network).parameters()}
        self.parameters = [item for item in network.parameters() if item.requires_grad and id(item) not in head]
        self.layers = [
            layer
            for layer in network.modules()
            if _owns_state(layer) and not any(id(item) in head for item in layer.parameters(recurse=False))
        ]

    def set_frozen(self, is_frozen: bool) -> None:
        """Freeze it, or train it; the network is in training mode."""
        for parameter in self.parameters:
            parameter.requires_grad_(not is_frozen)
        if is_frozen:
            for layer in self.layers:
                layer.training = False  # not `train(False)`, which would reach the head below a layer with both


def _head(network: nn.Module) -> nn.Module:
    """The classifier that timm names, or the last layer that has parameters."""
    named = getattr(network, "get_classifier", None)
    classifier = named() if callable(named) else None
    if isinstance(classifier, nn.Module) and any(True for _ in classifier.parameters()):
        return classifier
    layers = [layer for layer in network.modules() if any(True for _ in layer.parameters(recurse=False))]
    return layers[-1]


def _owns_state(layer: nn.Module) -> bool:
    return any(True for _ in layer.parameters(recurse=False)) or any(True for _ in layer.buffers(recurse=False))
