"""A bilinear layer, whose weight the exporter transposes and reshapes."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 8, 3)
        self.h = nn.Linear(8, 5)
        self.b = nn.Bilinear(8, 8, 5)

    def forward(self, x):
        return self.b(torch.tanh(self.c(x)).mean((2, 3)), torch.relu(self.c(x)).mean((2, 3)))


IMAGE = (20, 20, 3)
