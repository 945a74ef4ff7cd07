"""Course: the networks of the PyTorch course that Onward grew from, as it writes them.

Each ends as it does there: in a sigmoid, a softmax, a log-softmax or logits; `final_activation.py` finds out which.
Each takes `(batch, channels, height, width)` and flattens it, as the course does. docs/course.md follows each of them
from training to prediction.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onward.errors import UsageError

__all__ = ["Network", "Neuron", "Perceptron", "PerceptronModule", "TwoLayers", "sequential"]


class Neuron(nn.Module):
    """Part 1: one layer of plain tensors and a sigmoid; its one output is the probability of the second class.

    Args:
        num_inputs: Pixels times channels.
    """

    def __init__(self, num_inputs: int) -> None:
        super().__init__()
        self.weights = _weights(1, num_inputs, fan_in=num_inputs)
        self.bias = _weights(1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """`(batch, channels, height, width)` -> probabilities `(batch, 1)`."""
        features = image.view(image.shape[0], -1)
        return torch.sigmoid(torch.mm(features, self.weights.view(-1, 1)) + self.bias)


class TwoLayers(nn.Module):
    """Part 1: two layers of weight matrices, a sigmoid after each.

    Args:
        num_inputs: Pixels times channels.
        num_hidden: Width of the hidden layer.
    """

    def __init__(self, num_inputs: int, num_hidden: int = 2) -> None:
        super().__init__()
        self.W1 = _weights(num_inputs, num_hidden, fan_in=num_inputs)
        self.W2 = _weights(num_hidden, 1)
        self.B1 = _weights(1, num_hidden)
        self.B2 = _weights(1, 1)

    def forward(self, image: Tensor) -> Tensor:
        """`(batch, channels, height, width)` -> probabilities `(batch, 1)`."""
        features = image.view(image.shape[0], -1)
        hidden = torch.sigmoid(torch.mm(features, self.W1) + self.B1)
        return torch.sigmoid(torch.mm(hidden, self.W2) + self.B2)


class Perceptron(nn.Module):
    """Part 2: 784-256-10 of plain weight tensors and matrix products, with a sigmoid between them.

    Args:
        num_inputs: Pixels times channels.
        num_classes: Width of the logits.
        num_hidden: Width of the hidden layer.
    """

    def __init__(self, num_inputs: int, num_classes: int, num_hidden: int = 256) -> None:
        super().__init__()
        self.weights_1 = _weights(num_inputs, num_hidden, fan_in=num_inputs)
        self.bias_1 = nn.Parameter(torch.zeros(num_hidden))
        self.weights_2 = _weights(num_hidden, num_classes, fan_in=num_hidden)
        self.bias_2 = nn.Parameter(torch.zeros(num_classes))

    def forward(self, image: Tensor) -> Tensor:
        """`(batch, channels, height, width)` -> logits `(batch, classes)`."""
        features = image.view(image.shape[0], -1)
        hidden = torch.sigmoid(torch.mm(features, self.weights_1) + self.bias_1)
        return torch.mm(hidden, self.weights_2) + self.bias_2


class PerceptronModule(nn.Module):
    """Part 2: the same as an nn.Module with a final softmax over the classes.

    Args:
        num_inputs: Pixels times channels.
        num_classes: Width of the outputs.
        num_hidden: Width of the hidden layer.
    """

    def __init__(self, num_inputs: int, num_classes: int, num_hidden: int = 256) -> None:
        super().__init__()
        self.hidden = nn.Linear(num_inputs, num_hidden)
        self.output = nn.Linear(num_hidden, num_classes)
        self.sigmoid = nn.Sigmoid()
        self.softmax = nn.Softmax(dim=1)

    def forward(self, image: Tensor) -> Tensor:
        """`(batch, channels, height, width)` -> probabilities `(batch, classes)`."""
        hidden = self.sigmoid(self.hidden(image.view(image.shape[0], -1)))
        probabilities: Tensor = self.softmax(self.output(hidden))
        return probabilities


def sequential(num_inputs: int, num_classes: int, hidden: Sequence[int] = (128, 64), end: str = "softmax") -> nn.Module:
    """Parts 2 and 3: 784-128-64-10 as an nn.Sequential with ReLU.

    Args:
        num_inputs: Pixels times channels.
        num_classes: Width of the outputs.
        hidden: Width of each hidden layer.
        end: `softmax` (part 2), `log-softmax` (part 3, for NLLLoss) or `logits` (part 3, for CrossEntropyLoss).
    """
    ends: dict[str, list[nn.Module]] = {
        "softmax": [nn.Softmax(dim=1)],
        "log-softmax": [nn.LogSoftmax(dim=1)],
        "logits": [],
    }
    if end not in ends:
        raise UsageError(f"the argument end is {end!r}, expected one of {', '.join(ends)}.")
    layers: list[nn.Module] = [nn.Flatten()]
    for width_in, width_out in pairwise([num_inputs, *hidden]):
        layers += [nn.Linear(width_in, width_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden[-1], num_classes), *ends[end])


class Network(nn.Module):
    """Part 6: any number of hidden layers, dropout, and a log-softmax; what the course's checkpoints hold.

    Args:
        input_size: Pixels times channels.
        output_size: Number of classes.
        hidden_layers: Width of each hidden layer.
        drop_p: Probability of dropping a hidden unit in training.
    """

    def __init__(
        self, input_size: int, output_size: int, hidden_layers: Sequence[int] = (512, 256, 128), drop_p: float = 0.5
    ) -> None:
        super().__init__()
        widths = [input_size, *hidden_layers]
        self.hidden_layers = nn.ModuleList(nn.Linear(width_in, width_out) for width_in, width_out in pairwise(widths))
        self.output = nn.Linear(widths[-1], output_size)
        self.dropout = nn.Dropout(p=drop_p)

    def forward(self, image: Tensor) -> Tensor:
        """`(batch, channels, height, width)` -> logarithms of probabilities `(batch, classes)`."""
        features = image.view(image.shape[0], -1)
        for layer in self.hidden_layers:
            features = self.dropout(F.relu(layer(features)))
        return F.log_softmax(self.output(features), dim=1)


def _weights(*shape: int, fan_in: int = 1) -> nn.Parameter:
    # the course draws from a plain normal distribution; over hundreds of pixels that saturates every sigmoid
    return nn.Parameter(torch.randn(*shape) / fan_in**0.5)
