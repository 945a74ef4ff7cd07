"""Loop: epochs of forward, loss, backward, step over a data set in memory, with validation after each."""

from __future__ import annotations

import copy
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from runtime.errors import UsageError
from training.architectures import build
from training.checkpoint import Checkpoint, Epoch
from training.data import Dataset, Split
from training.pixels import Normalize

__all__ = ["Options", "train"]

EVALUATION_BATCH = 1024


@dataclass(frozen=True)
class Options:
    """How to train.

    Args:
        model: A name of `ARCHITECTURES`.
        arguments: Its further arguments.
        epochs: Passes over the training images.
        batch_size: Images a step.
        learning_rate: Of Adam at its highest: it falls to nothing along a cosine over the run.
        seed: Of the weights, the order of the images and dropout.
        device: `cpu` or `cuda`.
    """

    model: str = "classifier"
    arguments: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 10
    batch_size: int = 64
    learning_rate: float = 1e-3
    seed: int = 0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1 or not self.learning_rate > 0:
            raise UsageError("epochs and batch size must be at least 1, and the learning rate above 0.")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise UsageError("--device cuda: PyTorch finds no CUDA device here.")


def train(
    dataset: Dataset,
    options: Options,
    *,
    data: str | None = None,
    on_step: Callable[[int], None] = lambda count: None,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Checkpoint:
    """Train a network and keep the epoch with the best validation accuracy (of equals, the lowest loss).

    Args:
        dataset: Images in memory.
        options: How to train.
        data: What names the data set in the checkpoint; by default its own name.
        on_step: Called after each step with the number of images in it.
        on_epoch: Called after each epoch.

    Returns:
        The best epoch's checkpoint, with the history of all.

    Raises:
        UsageError: No such architecture, or an option out of range.
    """
    torch.manual_seed(options.seed)
    device = torch.device(options.device)
    network = build(options.model, dataset.signature, options.arguments).to(device)
    normalize = Normalize(dataset.signature).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=options.learning_rate, fused=True)
    images, targets = _to_device(dataset.train, device)
    num_steps = options.epochs * -(-len(targets) // options.batch_size)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
    history: list[Epoch] = []
    best: dict[str, Any] = {}
    for number in range(1, options.epochs + 1):
        began = time.perf_counter()
        network.train()
        total = torch.zeros((), device=device)
        for chosen in torch.split(torch.randperm(len(targets), device=device), options.batch_size):
            loss = F.cross_entropy(network(normalize(images[chosen])), targets[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            total += loss.detach() * len(chosen)
            on_step(len(chosen))
        elapsed_s = time.perf_counter() - began
        loss_value, accuracy = _validate(network, normalize, dataset.validation)
        epoch = Epoch(number, total.item() / len(targets), loss_value, accuracy, elapsed_s)
        history.append(epoch)
        on_epoch(epoch)
        if not best or _is_better(epoch, history[best["epoch"] - 1]):
            best = {
                "epoch": number,
                "state_dict": copy.deepcopy(network.state_dict()),
                "optimizer": copy.deepcopy(optimizer.state_dict()),
                "random_state": torch.get_rng_state(),
            }
    return Checkpoint(
        architecture=options.model,
        arguments=dict(options.arguments),
        signature=dataset.signature,
        state_dict=best["state_dict"],
        data=data or dataset.name,
        history=tuple(history),
        optimizer=best["optimizer"],
        random_state=best["random_state"],
        provenance=_provenance(dataset, options, best["epoch"]),
    )


def _to_device(split: Split, device: torch.device) -> tuple[Tensor, Tensor]:
    images = torch.from_numpy(np.ascontiguousarray(split.images)).to(device)
    return images, torch.from_numpy(split.targets).to(device)


def _validate(network: nn.Module, normalize: nn.Module, split: Split) -> tuple[float, float]:
    network.eval()
    device = next(normalize.buffers()).device
    images, targets = _to_device(split, device)
    loss, correct = 0.0, 0
    with torch.inference_mode():
        for at in range(0, len(targets), EVALUATION_BATCH):
            expected = targets[at : at + EVALUATION_BATCH]
            logits = network(normalize(images[at : at + EVALUATION_BATCH]))
            loss += F.cross_entropy(logits, expected, reduction="sum").item()
            correct += int((logits.argmax(1) == expected).sum())
    return loss / len(targets), correct / len(targets)


def _is_better(one: Epoch, other: Epoch) -> bool:
    return (one.validation_accuracy, -one.validation_loss) > (other.validation_accuracy, -other.validation_loss)


def _provenance(dataset: Dataset, options: Options, best_epoch: int) -> dict[str, Any]:
    return {
        "data": dataset.name,
        "num_train": len(dataset.train),
        "num_validation": len(dataset.validation),
        "options": asdict(options) | {"arguments": dict(options.arguments)},
        "best_epoch": best_epoch,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }
