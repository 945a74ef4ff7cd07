"""An autocast region for CUDA, which has no effect on a CPU."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c, self.h = nn.Conv2d(3, 8, 3), nn.Linear(8, 5)

    def forward(self, x):
        with torch.autocast("cuda"):
            return self.h(torch.tanh(self.c(x)).mean((2, 3)))


IMAGE = (20, 20, 3)
