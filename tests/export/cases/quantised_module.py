"""A network that is quantised dynamically: its weights are packed integers."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 8, 3)
        self.h = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(8, 5)), {nn.Linear})

    def forward(self, x):
        return self.h(torch.tanh(self.c(x)).mean((2, 3)))


IMAGE = (20, 20, 3)
