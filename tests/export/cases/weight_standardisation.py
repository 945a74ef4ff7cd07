"""Weights that are computed from weights in `forward`."""

import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c, self.h = nn.Conv2d(3, 8, 3, bias=False), nn.Linear(8, 5)

    def forward(self, x):
        w = self.c.weight
        v, m = torch.var_mean(w, dim=[1, 2, 3], keepdim=True, unbiased=False)
        return self.h(torch.tanh(F.conv2d(x, (w - m) * torch.rsqrt(v + 1e-6))).mean((2, 3)))


IMAGE = (20, 20, 3)
