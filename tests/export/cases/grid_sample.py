"""A spatial transformer: affine_grid and grid_sample."""

import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c, self.l, self.d, self.h = (
            nn.Conv2d(3, 8, 5, stride=2),
            nn.Linear(8, 6),
            nn.Conv2d(3, 8, 3),
            nn.Linear(8, 5),
        )

    def forward(self, x):
        t = self.l(torch.tanh(self.c(x)).mean((2, 3))).view(-1, 2, 3) * 0.3 + torch.eye(2, 3, dtype=x.dtype)
        g = F.affine_grid(t, x.size(), align_corners=False)
        return self.h(torch.tanh(self.d(F.grid_sample(x, g, align_corners=False))).mean((2, 3)))


IMAGE = (20, 20, 3)
