"""Classification in PyTorch: a network gives logits, and the model adds their softmax as probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from onward.tasks.classification import LOGITS, PROBABILITIES
from onward_training.data import class_weights
from onward_training.models import as_logits_network, logits_of
from onward_training.options import TrainOptions
from onward_training.tasks.network_task import Loss, NetworkTask

__all__ = ["ClassificationLoss", "ClassificationNetworks"]

#: Weight of an auxiliary classifier's loss. Source: Szegedy et al., "Going deeper with convolutions", 2014.
AUXILIARY_WEIGHT = 0.3


class ClassificationNetworks(NetworkTask):
    """Networks that give one logit for each label."""

    def adapt(self, network: nn.Module, final_activation: str = "auto", output: str | None = None) -> nn.Module:
        """A network that gives logits: without a final softmax or sigmoid (`onward_training.models`)."""
        return as_logits_network(network, self.signature, final_activation, output)

    def outputs(self, values: Tensor) -> tuple[Tensor, ...]:
        """Logits and their softmax, both `(batch, classes)`."""
        by_meaning = {LOGITS: values, PROBABILITIES: torch.softmax(values, dim=1)}
        return tuple(by_meaning[output.meaning] for output in self.signature.outputs)

    def make_loss(self, options: TrainOptions, targets: NDArray[Any]) -> Loss:
        """Cross-entropy, with the class weights and the label smoothing that the options ask for."""
        weights = None
        if options.class_weights == "balanced":
            weights = torch.from_numpy(class_weights(targets, self.signature.num_classes)).to(options.device)
        return ClassificationLoss(options.label_smoothing, weights)

    def validation_loss(self, values: Tensor, targets: Tensor) -> Tensor:
        """Plain cross-entropy."""
        return F.cross_entropy(values, targets, reduction="sum")

    def is_right(self, values: Tensor, targets: Tensor) -> Tensor:
        """Whether the largest logit is that of the target."""
        return values.argmax(1) == targets


class ClassificationLoss:
    """Cross-entropy of the logits, and of the auxiliary classifiers that some networks have in training mode.

    Args:
        label_smoothing: From 0 to below 1.
        class_weights: float32 `(classes,)`; None weighs all classes equally.
    """

    def __init__(self, label_smoothing: float = 0.0, class_weights: Tensor | None = None) -> None:
        self.label_smoothing = label_smoothing
        self.class_weights = class_weights

    def __call__(self, output: Any, targets: Tensor) -> tuple[Tensor, Tensor]:
        """A network's output and targets, int64 `(batch,)` -> the loss, a 0-d tensor, and the logits."""
        logits = logits_of(output)
        loss = self._cross_entropy(logits, targets)
        if not isinstance(output, Tensor) and isinstance(output, Sequence):
            for auxiliary in output[1:]:
                if isinstance(auxiliary, Tensor) and auxiliary.shape == logits.shape:
                    loss = loss + AUXILIARY_WEIGHT * self._cross_entropy(auxiliary, targets)
        return loss, logits

    def _cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(logits, targets, weight=self.class_weights, label_smoothing=self.label_smoothing)
