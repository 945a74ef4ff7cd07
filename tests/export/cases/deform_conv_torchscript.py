"""A deformable convolution of torchvision in PyTorch's own formats."""

import torch
from torch import nn
from torchvision.ops import DeformConv2d


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.o, self.d, self.h = nn.Conv2d(3, 18, 3, padding=1), DeformConv2d(3, 8, 3, padding=1), nn.Linear(8, 5)

    def forward(self, x):
        return self.h(torch.tanh(self.d(x, self.o(x))).mean((2, 3)))


IMAGE = (20, 20, 3)
