"""A buffer that is not in the state_dict."""

import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("k", torch.randn(8, 3, 3, 3) * 0.2, persistent=False)
        self.h = nn.Linear(8, 5)

    def forward(self, x):
        return self.h(torch.tanh(F.conv2d(x, self.k)).mean((2, 3)))


IMAGE = (20, 20, 3)
