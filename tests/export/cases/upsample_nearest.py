"""Upsampling by 1.4: 20 pixels become 28 in PyTorch, 27 where the factor is rounded to float32."""

import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.h = nn.Linear(8, 5)
        self.d = nn.Conv2d(8, 8, 3)
        self.c = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x):
        return self.h(torch.tanh(self.d(F.interpolate(self.c(x), scale_factor=1.4))).mean((2, 3)))


IMAGE = (20, 20, 3)
