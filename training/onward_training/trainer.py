"""Trainer: a network in training and all state that decides how training continues; saved as a Checkpoint."""

from __future__ import annotations

import math
import platform
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from onward.errors import Diverged, UsageError
from onward.signature import Signature
from onward_training.augmentation import Augment
from onward_training.batches import Batches, seed_of
from onward_training.checkpoint import Checkpoint, Epoch, best_epoch, load_weights
from onward_training.data import AnySplit, Dataset
from onward_training.devices import forked_devices, random_states, set_random_states
from onward_training.epoch_metrics import EpochMetrics
from onward_training.freezing import Backbone
from onward_training.models import build_checked
from onward_training.normalization import Normalize
from onward_training.optimization import make_optimizer, make_schedule
from onward_training.options import TrainOptions, parse_augmentation
from onward_training.tasks import Loss, NetworkTask, network_task_of

__all__ = ["Trainer"]

VALIDATION_BATCH_SIZE = 1024
#: Options that runs of earlier versions do not have, with the values that they had all the same.
ADDED_OPTIONS = {"freeze_epochs": 0}


@dataclass
class Trainer:
    """A network in training, between two steps.

    Args:
        options: How to train.
        identity: What a resumed run must have in common with the first one: options and digest of the data.
        data: The data set's name in the checkpoint.
        network: The network whose weights the checkpoint holds.
        model: The same network, returning the values that the task takes.
        signature: The network's inputs and outputs.
        task: What the network is trained for.
        normalize: uint8 images -> the network's input.
        batches: The training images.
        loss: The loss function.
        optimizer: Over the network's parameters.
        schedule: Of the learning rate.
        scaler: Of gradients in float16; it does nothing in other precisions.
        metrics: Of the current epoch.
        elapsed_s: Seconds of training in the current epoch.
        history: The epochs that are done.
        best: The checkpoint of the best epoch.
        backbone: What is frozen in the first epochs; None if nothing is.
    """

    options: TrainOptions
    identity: dict[str, Any]
    data: str
    network: nn.Module
    model: nn.Module
    signature: Signature
    task: NetworkTask
    normalize: nn.Module
    batches: Batches
    loss: Loss
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    metrics: EpochMetrics = field(default_factory=lambda: EpochMetrics(1))
    elapsed_s: float = 0.0
    history: list[Epoch] = field(default_factory=list)
    best: Checkpoint | None = None
    backbone: Backbone | None = None

    @classmethod
    def create(
        cls, dataset: Dataset, options: TrainOptions, data: str, initialise: Callable[[nn.Module], None] | None
    ) -> Trainer:
        """A new network, before its first step.

        Raises:
            UsageError: No such architecture, or it does not fit the data.
        """
        torch.manual_seed(options.seed)
        device = torch.device(options.device)
        network, signature = build_checked(options.model, dataset.signature, options.arguments)
        if initialise is not None:
            initialise(network)
        network.to(device)
        names = parse_augmentation(options.augment)
        batches = Batches(dataset.train, options, Augment(names) if names else None)
        task = network_task_of(signature)
        optimizer = make_optimizer(network, options)
        return cls(
            options=options,
            identity=_identity(dataset, options),
            data=data,
            network=network,
            model=task.adapt(network, options.final_activation),
            signature=signature,
            task=task,
            normalize=Normalize(signature).to(device),
            batches=batches,
            loss=task.make_loss(options, dataset.train.targets),
            optimizer=optimizer,
            schedule=make_schedule(optimizer, options, options.epochs * len(batches)),
            scaler=torch.amp.GradScaler(options.device, enabled=options.precision == "float16"),
            backbone=Backbone(network) if options.freeze_epochs else None,
        )

    @property
    def epoch(self) -> int:
        """The current epoch, from 1."""
        return len(self.history) + 1

    @property
    def best_epoch(self) -> int:
        """The best epoch so far, from 1; 0 before the first is done."""
        return best_epoch(self.history)

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are done, or patience has run out."""
        waited = len(self.history) - self.best_epoch
        return self.epoch > self.options.epochs or bool(self.options.patience and waited >= self.options.patience)

    def first_batch(self) -> tuple[Tensor, Tensor]:
        """The images of the run's first step, augmented as they will be, and their targets."""
        with torch.random.fork_rng(devices=forked_devices(self.options.device)):
            torch.manual_seed(seed_of(self.options.seed, 1))
            reader = self.batches.read(1)
            images, targets = next(reader)
            reader.close()
        return images.cpu(), targets.cpu()

    def start_epoch(self) -> None:
        """Enter training mode, frozen or not, and seed the generator before the first step of an epoch."""
        if not self.metrics.num_steps:
            torch.manual_seed(seed_of(self.options.seed, self.epoch))
        self.model.train()
        if self.backbone is not None:
            self.backbone.set_frozen(self.epoch <= self.options.freeze_epochs)

    def remaining_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The images and targets of the current epoch's remaining steps."""
        return self.batches.read(self.epoch, self.metrics.num_steps)

    def train_step(self, images: Tensor, targets: Tensor) -> None:
        """Forward, loss, backward, optimizer step.

        Raises:
            Diverged: A loss so far is NaN or infinite.
        """
        if len(targets) == 0 or len(targets) == 1 < self.options.batch_size:
            # the other images of a streamed batch were unreadable; batch normalisation cannot train on one image
            self.metrics.skip_step()
            return
        with self._autocast():
            loss, values = self.loss(self.model(self.normalize(images)), targets)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self.options.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.options.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        try:
            self.metrics.add_step(loss.detach(), self.task.is_right(values.detach(), targets))
        except FloatingPointError as error:
            raise self._diverged(error) from error

    def read_metrics(self) -> None:
        """Read the metrics of the latest steps.

        Raises:
            Diverged: One of their losses is NaN or infinite.
        """
        try:
            self.metrics.read()
        except FloatingPointError as error:
            raise self._diverged(error) from error

    def finish_epoch(self, validation: AnySplit, on_images: Callable[[int], None] = lambda count: None) -> Epoch:
        """Validate, add the epoch to the history, and keep the state if it is the best so far."""
        validation_loss, accuracy = self._validate(validation, on_images)
        epoch = Epoch(
            epoch=self.epoch,
            train_loss=self.metrics.loss,
            validation_loss=validation_loss,
            validation_accuracy=accuracy,
            elapsed_s=self.elapsed_s,
            train_accuracy=self.metrics.accuracy,
            learning_rate=float(self.optimizer.param_groups[0]["lr"]),
        )
        self.history.append(epoch)
        self.metrics, self.elapsed_s = EpochMetrics(self.epoch), 0.0
        if self.best_epoch == epoch.epoch:
            self.best = self.state()
        return epoch

    def state(self) -> Checkpoint:
        """A copy of the whole state; further training does not change it."""
        self.read_metrics()
        return Checkpoint(
            architecture=self.options.model,
            arguments=dict(self.options.arguments),
            signature=self.signature,
            state_dict=_copy(self.network.state_dict()),
            data=self.data,
            history=tuple(self.history),
            optimizer=_copy(self.optimizer.state_dict()),
            random_state=torch.get_rng_state(),
            provenance=self.identity | {"best_epoch": self.best_epoch, **_versions()},
            final_activation=self.options.final_activation,
            progress={
                "step": self.metrics.num_steps,
                "tally": self.metrics.to_json(),
                "elapsed_s": self.elapsed_s,
                "schedule": self.schedule.state_dict(),
                "scaler": self.scaler.state_dict(),
                **random_states(self.options.device),
                "best_epoch": self.best_epoch,
                "finished": self.is_finished,
            },
        )

    def restore(self, last: Checkpoint, best: Checkpoint | None) -> None:
        """Restore the state of an earlier run with the same options and data; a finished one may get more epochs.

        Raises:
            UsageError: Options or data differ; the message names each difference.
        """
        before, now = ADDED_OPTIONS | last.provenance.get("options", {}), dict(self.identity["options"])
        is_extended = last.progress["finished"] and now["epochs"] > before.get("epochs", math.inf)
        if is_extended:
            del now["epochs"]
        changed = _differences(before, now)
        changed += _differences(last.provenance, {key: self.identity[key] for key in ("data", "data_sha256")})
        if changed:
            raise UsageError(f"the run to resume had other options: {'; '.join(changed)}.")
        load_weights(self.network, last.state_dict)
        self.optimizer.load_state_dict(dict(last.optimizer))
        progress = last.progress
        if is_extended:
            self._move_schedule(len(last.history) * len(self.batches))
        else:
            self.schedule.load_state_dict(progress["schedule"])
        self.scaler.load_state_dict(progress["scaler"])
        self.history, self.best = list(last.history), best
        self.metrics = EpochMetrics.from_json(self.epoch, progress["tally"])
        self.elapsed_s = progress["elapsed_s"]
        if last.random_state is not None:
            torch.set_rng_state(last.random_state)
        set_random_states(progress)

    def _move_schedule(self, num_steps: int) -> None:
        """Set the learning rate to what the schedule of this run's epochs has after so many steps.

        A schedule computes each rate from the one before, so the steps are taken, one by one.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.learning_rate
            group.pop("initial_lr", None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the optimizer has not taken these steps here
            self.schedule = make_schedule(self.optimizer, self.options, self.options.epochs * len(self.batches))
            for _ in range(num_steps):
                self.schedule.step()

    def _autocast(self) -> AbstractContextManager[Any]:
        """The precision of a forward pass."""
        if self.options.precision == "float32":
            return nullcontext()
        return torch.autocast(self.options.device, getattr(torch, self.options.precision))

    def _diverged(self, error: FloatingPointError) -> Diverged:
        kept = f" The best epoch before it, epoch {self.best_epoch}, is kept." if self.best_epoch else ""
        return Diverged(f"{error}: the training has diverged.{kept} A lower --learning-rate or --clip-norm 1 may help.")

    def _validate(self, split: AnySplit, on_images: Callable[[int], None]) -> tuple[float, float]:
        """Mean loss and accuracy in eval mode, in float32."""
        self.model.eval()
        device = torch.device(self.options.device)
        loss, num_correct, num_images = 0.0, 0, 0
        with torch.inference_mode():
            for at in range(0, len(split), VALIDATION_BATCH_SIZE):
                images, targets = (
                    torch.tensor(part).to(device) for part in split.read(slice(at, at + VALIDATION_BATCH_SIZE))
                )
                values = self.model(self.normalize(images))
                loss += self.task.validation_loss(values, targets).item()
                num_correct += int(self.task.is_right(values, targets).sum())
                num_images += len(targets)
                on_images(min(VALIDATION_BATCH_SIZE, len(split) - at))
        return loss / num_images, num_correct / num_images


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_copy, value))
    return value


def _identity(dataset: Dataset, options: TrainOptions) -> dict[str, Any]:
    chosen = asdict(options) | {"arguments": dict(options.arguments)}
    chosen.pop("num_workers")  # the number of decoding processes does not change the result
    chosen["end"] = chosen.pop("final_activation")  # "end" is its key in the file
    return {
        "data": dataset.name,
        "data_sha256": dataset.digest(),
        "num_train": len(dataset.train),
        "num_validation": len(dataset.validation),
        "options": chosen,
    }


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """A phrase for each entry of `now` that `before` has not, or has otherwise."""
    names = {"end": "final activation"}
    return [
        f"{names.get(name, name.replace('_', ' '))} was {before.get(name)}, now is {value}"
        for name, value in now.items()
        if before.get(name) != value
    ]


def _versions() -> dict[str, str]:
    return {"torch": str(torch.__version__), "python": platform.python_version()}
