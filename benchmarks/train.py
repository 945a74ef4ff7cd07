"""Onward's training beside the course's loop and a bare one: `make bench`.

Fashion-MNIST, the network 784-256-128-64-10 with dropout, Adam, batches of 64, the same 54,000 images. One epoch of
each in turns (A B C A B C …) in one process, medians over rounds; then the time to 88 % test accuracy.

- Onward: `train`, one epoch, as the command runs it: uint8 in memory, normalised in batches; without validation.
- The course's loop: DataLoader of 64, PIL, ToTensor and Normalize image by image, Adam, `loss.item()` each step.
- Bare loop: float tensors that were normalised before, and nothing but forward, loss, backward, step, with fused Adam.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from onward.cli.console import print_table, remark
from onward_training.data import Dataset as Images
from onward_training.data import load
from onward_training.evaluator import checkpoint_runner, evaluate
from onward_training.loop import train
from onward_training.models import build
from onward_training.normalization import Normalize
from onward_training.options import TrainOptions

NUM_ROUNDS = 5
BATCH_SIZE = 64
TARGET = 0.88
MAX_EPOCHS = 15
COURSE_RATE = 3e-3


class Course(Dataset[tuple[Tensor, int]]):
    """Images one by one, as torchvision's data sets give them."""

    def __init__(self, images: np.ndarray, targets: np.ndarray) -> None:
        self.images, self.targets = images, targets
        self.transform = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.5,), (0.5,))])

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.images[index, ..., 0])), int(self.targets[index])


def onward_epoch(dataset: Images) -> float:
    """Seconds of one epoch, as the history has them."""
    return train(dataset, TrainOptions(epochs=1, batch_size=BATCH_SIZE)).history[0].elapsed_s


def course_epochs(dataset: Images) -> Iterator[tuple[float, nn.Module]]:
    """Seconds so far and the network, after each epoch."""
    network = build("classifier", dataset.signature)
    loader = DataLoader(Course(dataset.train.read(slice(None))[0], dataset.train.targets), BATCH_SIZE, shuffle=True)
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(network.parameters(), lr=COURSE_RATE)
    elapsed_s = 0.0
    while True:
        began = time.perf_counter()
        network.train()
        running_loss = 0.0
        for images, targets in loader:
            optimizer.zero_grad()
            loss = criterion(network(images), targets)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
        elapsed_s += time.perf_counter() - began
        yield elapsed_s, network


def bare_epoch(dataset: Images) -> float:
    network = build("classifier", dataset.signature).train()
    images = Normalize(dataset.signature)(torch.from_numpy(dataset.train.read(slice(None))[0]))
    targets = torch.from_numpy(dataset.train.targets)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)
    criterion = nn.CrossEntropyLoss()
    began = time.perf_counter()
    for chosen in torch.split(torch.randperm(len(targets)), BATCH_SIZE):
        optimizer.zero_grad()
        loss = criterion(network(images[chosen]), targets[chosen])
        loss.backward()
        optimizer.step()
    return time.perf_counter() - began


def course_accuracy(dataset: Images, network: nn.Module) -> float:
    images, targets = dataset.test.read(slice(None))
    with torch.inference_mode():
        logits = network.eval()((torch.tensor(images).permute(0, 3, 1, 2) / 255 - 0.5) / 0.5)
    return float((logits.argmax(1).numpy() == targets).mean())


def course_to_target(dataset: Images) -> str:
    for epoch, (elapsed_s, network) in enumerate(course_epochs(dataset), 1):
        accuracy = course_accuracy(dataset, network)
        if accuracy >= TARGET:
            return f"{elapsed_s:.1f} s, {epoch} epochs, {accuracy:.2%}"
        if epoch == MAX_EPOCHS:
            break
    return f"not in {MAX_EPOCHS} epochs ({elapsed_s:.0f} s): {accuracy:.2%}"


def onward_to_target(dataset: Images) -> str:
    """The shortest run that ends above the target: a schedule has an end, so each length is a run of its own."""
    for epochs in range(2, MAX_EPOCHS):
        options = TrainOptions(epochs=epochs, batch_size=BATCH_SIZE, learning_rate=3e-3, schedule="one-cycle")
        checkpoint = train(dataset, options)
        accuracy = evaluate(checkpoint_runner(checkpoint), dataset.test).accuracy
        if accuracy >= TARGET:
            elapsed_s = sum(epoch.elapsed_s for epoch in checkpoint.history)
            return f"{elapsed_s:.1f} s, {epochs} epochs, {accuracy:.2%}"
    return f"not in {MAX_EPOCHS} epochs"


def main() -> None:
    dataset = load("fashion-mnist")
    ways: dict[str, Callable[[], float]] = {
        "Onward": lambda: onward_epoch(dataset),
        "bare loop over tensors": lambda: bare_epoch(dataset),
        "the course's loop": lambda: next(course_epochs(dataset))[0],
    }
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(NUM_ROUNDS + 1):
        for way, run in ways.items():
            taken = run()
            if number:  # the first round warms up
                seconds[way].append(taken)
        remark(f"round {number} of {NUM_ROUNDS}")
    torch.manual_seed(0)
    reached = {"Onward": onward_to_target(dataset), "the course's loop": course_to_target(dataset)}
    rows = []
    for way, times in seconds.items():
        ratio = statistics.median(other / ours for other, ours in zip(times, seconds["Onward"], strict=True))
        median = statistics.median(times)
        rate = f"{len(dataset.train) / median:,.0f}"
        rows.append([way, f"{median:.2f}", rate, f"{ratio:.2f}", reached.get(way, "")])
    print_table(
        ["", ">s an epoch", ">images/s", ">Onward is × as fast", f"to {TARGET:.0%} of the test images"],
        rows,
        title="Training, Fashion-MNIST, 784-256-128-64-10, batches of 64",
    )


if __name__ == "__main__":
    main()
