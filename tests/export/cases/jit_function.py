"""An activation compiled with `torch.jit.script`."""

import torch
from torch import nn


@torch.jit.script
def swish(x):
    return x * torch.sigmoid(x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 8, 3)
        self.h = nn.Linear(8, 5)

    def forward(self, x):
        return self.h(swish(self.c(x)).mean((2, 3)))


IMAGE = (20, 20, 3)
