"""`.item()` of a buffer: a constant, and no control flow that depends on data."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 8, 3)
        self.h = nn.Linear(8, 5)
        self.register_buffer("s", torch.tensor(1.7))

    def forward(self, x):
        return self.h(torch.tanh(self.c(x)).mean((2, 3))) * float(self.s.item())


IMAGE = (20, 20, 3)
