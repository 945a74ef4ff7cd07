"""A module that holds a lock, which can be neither copied nor pickled."""

import threading

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c = nn.Conv2d(3, 8, 3)
        self.h = nn.Linear(8, 5)
        self.lock = threading.Lock()

    def forward(self, x):
        return self.h(torch.tanh(self.c(x)).mean((2, 3)))


IMAGE = (20, 20, 3)
