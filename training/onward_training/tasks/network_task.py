"""Network task: what training and export ask about the values that a network returns."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray
from torch import Tensor, nn

from onward.signature import AnySignature
from onward_training.options import TrainOptions

__all__ = ["Loss", "NetworkTask"]

#: What a network returned, and the targets -> the loss, a 0-d tensor, and the values `(batch, *dims)`.
Loss = Callable[[Any, Tensor], tuple[Tensor, Tensor]]


class NetworkTask(ABC):
    """A task in PyTorch.

    Args:
        signature: What the network takes, and what the model gives.
    """

    def __init__(self, signature: AnySignature) -> None:
        self.signature = signature

    @abstractmethod
    def adapt(self, network: nn.Module, final_activation: str = "auto", output: str | None = None) -> nn.Module:
        """The network as one that returns the values that the outputs are computed from.

        Args:
            network: In the caller's hands still: it is not copied.
            final_activation: What it ends in, of `onward_training.options.FINAL_ACTIVATIONS`.
            output: Which of the values that it returns; None for the only one.

        Raises:
            UsageError: The values cannot be had, or the network does not end as declared.
        """

    @abstractmethod
    def outputs(self, values: Tensor) -> tuple[Tensor, ...]:
        """The outputs of the model, in the order of the signature, from the values of an adapted network."""

    @abstractmethod
    def make_loss(self, options: TrainOptions, targets: NDArray[Any]) -> Loss:
        """What training makes small.

        Args:
            options: How to train.
            targets: Of all training samples.
        """

    @abstractmethod
    def validation_loss(self, values: Tensor, targets: Tensor) -> Tensor:
        """The loss that epochs are compared by, summed over a batch: a 0-d tensor."""

    @abstractmethod
    def is_right(self, values: Tensor, targets: Tensor) -> Tensor:
        """Whether each sample of a batch is right, bool `(batch,)`: what accuracy counts."""
