"""Run: a training between two steps, with all that decides how it goes on; saved and taken up as a checkpoint."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onward.errors import Diverged, UsageError
from onward.signature import Signature
from onward_training.augmentation import Augment, parse_augmentation
from onward_training.batches import Batches, seed_of
from onward_training.checkpoint import Checkpoint, Epoch, load_weights
from onward_training.data import AnySplit, Dataset
from onward_training.data.dataset import class_weights
from onward_training.epoch_metrics import EpochMetrics, Step
from onward_training.models import as_logits_network, build_checked
from onward_training.normalization import Normalize
from onward_training.optimization import Loss, make_optimizer, make_schedule
from onward_training.options import TrainOptions
from onward_training.run_folder import RunFolder, differences

__all__ = ["Run"]

EVALUATION_BATCH = 1024


@dataclass
class Run:
    """A run between two steps: everything that decides how it goes on.

    Args:
        options: How to train.
        identity: What a run that goes on with this one must share: options, digest of the data.
        data: What names the data set.
        network: Its weights are what a checkpoint holds.
        model: The same weights; it gives logits.
        signature: What the network takes and gives.
        normalize: uint8 images in, what the network takes out.
        batches: The training images.
        loss: What is made small.
        optimizer: Over the network's parameters.
        schedule: Of its learning rate.
        scaler: Of gradients in float16; else it does nothing.
        tally: Of the epoch under way.
        elapsed_s: Seconds of training of the epoch under way.
        history: The epochs that are done.
        best: The best of them.
    """

    options: TrainOptions
    identity: dict[str, Any]
    data: str
    network: nn.Module
    model: nn.Module
    signature: Signature
    normalize: nn.Module
    batches: Batches
    loss: Loss
    optimizer: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    tally: EpochMetrics = field(default_factory=lambda: EpochMetrics(1))
    elapsed_s: float = 0.0
    history: list[Epoch] = field(default_factory=list)
    best: Checkpoint | None = None

    @classmethod
    def begin(
        cls, dataset: Dataset, options: TrainOptions, data: str, start: Callable[[nn.Module], None] | None
    ) -> Run:
        """A new run, before its first step.

        Raises:
            UsageError: No such architecture, or it does not fit the data.
        """
        torch.manual_seed(options.seed)
        device = torch.device(options.device)
        network, signature = build_checked(options.model, dataset.signature, options.arguments)
        if start is not None:
            start(network)
        network.to(device)
        names = parse_augmentation(options.augment)
        batches = Batches(dataset.train, options, Augment(names) if names else None)
        weights = None
        if options.class_weights == "balanced":
            weights = torch.from_numpy(class_weights(dataset.train.targets, signature.num_classes)).to(device)
        optimizer = make_optimizer(network, options)
        return cls(
            options=options,
            identity=_identity(dataset, options, data),
            data=data,
            network=network,
            model=as_logits_network(network, signature, options.final_activation),
            signature=signature,
            normalize=Normalize(signature).to(device),
            batches=batches,
            loss=Loss(options.label_smoothing, weights),
            optimizer=optimizer,
            schedule=make_schedule(optimizer, options, options.epochs * len(batches)),
            scaler=torch.amp.GradScaler(options.device, enabled=options.precision == "float16"),
        )

    @property
    def epoch(self) -> int:
        """The epoch that is under way, from 1."""
        return len(self.history) + 1

    @property
    def best_epoch(self) -> int:
        """The best so far, from 1; 0 before the first is done."""
        best = 0
        for epoch in self.history:
            if not best or epoch.is_better_than(self.history[best - 1]):
                best = epoch.epoch
        return best

    @property
    def is_finished(self) -> bool:
        """Whether all epochs are done, or patience is at its end."""
        waited = len(self.history) - self.best_epoch
        return self.epoch > self.options.epochs or bool(self.options.patience and waited >= self.options.patience)

    def train_epoch(
        self, on_step: Callable[[Step], None], should_stop: Callable[[], bool], run_folder: RunFolder | None
    ) -> bool:
        """The steps that the epoch still lacks; True where it was stopped among them."""
        began = saved = time.perf_counter()
        if not self.tally.step:
            torch.manual_seed(seed_of(self.options.seed, self.epoch))
        self.model.train()
        for images, targets in self.batches.read(self.epoch, self.tally.step):
            if len(targets) > 1 or self.options.batch_size == 1:
                self.train_step(images, targets)
            else:  # nothing, or nothing but one image, of a streamed batch could be read
                self.tally.skip()
            on_step(Step(len(targets), self.tally))
            now = time.perf_counter()
            stops = should_stop()
            if stops or (run_folder is not None and now - saved > run_folder.save_every_s):
                self.elapsed_s, began, saved = self.elapsed_s + now - began, now, now
                if run_folder is not None:
                    run_folder.save(self.state())
            if stops:
                return True
        self.look()
        self.elapsed_s += time.perf_counter() - began
        return False

    def train_step(self, images: Tensor, targets: Tensor) -> None:
        """Forward, loss, backward, step."""
        with self.autocast():
            loss, logits = self.loss(self.model(self.normalize(images)), targets)
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self.options.clip_norm:
            self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self.network.parameters(), self.options.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.step()
        try:
            self.tally.add(loss.detach(), logits.detach().argmax(1) == targets)
        except FloatingPointError as error:
            raise self.diverged(error) from error

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of a forward pass."""
        if self.options.precision == "float32":
            return nullcontext()
        return torch.autocast(self.options.device, getattr(torch, self.options.precision))

    def look(self) -> None:
        """Count the latest steps.

        Raises:
            Diverged: One of their losses is no number.
        """
        try:
            self.tally.look()
        except FloatingPointError as error:
            raise self.diverged(error) from error

    def diverged(self, error: FloatingPointError) -> Diverged:
        """What to say of a loss that is no number."""
        kept = f" Epoch {self.best_epoch}, the best before it, is kept." if self.best_epoch else ""
        return Diverged(f"{error}: the training has diverged.{kept} A lower --learning-rate or --clip-norm 1 may help.")

    def close_epoch(self, validation: AnySplit) -> Epoch:
        """Validate, and keep the state if it is the best."""
        validation_loss, accuracy = self.validate(validation)
        epoch = Epoch(
            epoch=self.epoch,
            train_loss=self.tally.loss,
            validation_loss=validation_loss,
            validation_accuracy=accuracy,
            elapsed_s=self.elapsed_s,
            train_accuracy=self.tally.accuracy,
            learning_rate=float(self.optimizer.param_groups[0]["lr"]),
        )
        self.history.append(epoch)
        self.tally, self.elapsed_s = EpochMetrics(self.epoch), 0.0
        if self.best_epoch == epoch.epoch:
            self.best = self.state()
        return epoch

    def validate(self, split: AnySplit) -> tuple[float, float]:
        """Mean cross-entropy and accuracy in eval mode, in float32."""
        self.model.eval()
        device = torch.device(self.options.device)
        loss, right, count = 0.0, 0, 0
        with torch.inference_mode():
            for at in range(0, len(split), EVALUATION_BATCH):
                images, targets = (
                    torch.tensor(part).to(device) for part in split.read(slice(at, at + EVALUATION_BATCH))
                )
                logits = self.model(self.normalize(images))
                loss += F.cross_entropy(logits, targets, reduction="sum").item()
                right += int((logits.argmax(1) == targets).sum())
                count += len(targets)
        return loss / count, right / count

    def state(self) -> Checkpoint:
        """All of it, apart from the run: nothing here changes when that goes on."""
        self.look()
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
                "step": self.tally.step,
                "tally": self.tally.to_json(),
                "elapsed_s": self.elapsed_s,
                "schedule": self.schedule.state_dict(),
                "scaler": self.scaler.state_dict(),
                "cuda_random_state": torch.cuda.get_rng_state() if self.options.device == "cuda" else None,
                "best_epoch": self.best_epoch,
                "finished": self.is_finished,
            },
        )

    def go_on(self, last: Checkpoint, best: Checkpoint | None) -> None:
        """Take up the state of an earlier run of the same options and data.

        Raises:
            UsageError: It had others; each is named.
        """
        changed = differences(last.provenance.get("options", {}), self.identity["options"])
        changed += differences(last.provenance, {key: self.identity[key] for key in ("data", "data_sha256")})
        if changed:
            raise UsageError(f"the run to go on with had other options: {'; '.join(changed)}.")
        load_weights(self.network, last.state_dict)
        self.optimizer.load_state_dict(dict(last.optimizer))
        progress = last.progress
        self.schedule.load_state_dict(progress["schedule"])
        self.scaler.load_state_dict(progress["scaler"])
        self.history, self.best = list(last.history), best
        self.tally, self.elapsed_s = EpochMetrics(self.epoch, **progress["tally"]), progress["elapsed_s"]
        if last.random_state is not None:
            torch.set_rng_state(last.random_state)
        if progress["cuda_random_state"] is not None:
            torch.cuda.set_rng_state(progress["cuda_random_state"])


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_copy, value))
    return value


def _identity(dataset: Dataset, options: TrainOptions, data: str) -> dict[str, Any]:
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


def _versions() -> dict[str, str]:
    return {"torch": str(torch.__version__), "python": platform.python_version()}
