"""A complex parameter, which the exporter stores as two planes."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 8, 3)
        self.w = nn.Parameter(torch.randn(8, 18, 10, dtype=torch.cfloat) * 0.5)
        self.h = nn.Linear(8, 5)

    def forward(self, x):
        f = torch.fft.rfft2(self.c(x), norm="ortho") * self.w
        return self.h(torch.tanh(torch.fft.irfft2(f, s=(18, 18), norm="ortho")).mean((2, 3)))


IMAGE = (20, 20, 3)
