"""The course's networks through the whole line: `make course` writes docs/course.md and its chart.

Each is trained on Fashion-MNIST and exported to ONNX, TorchScript and .pt2 under the gate.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from onward.classifier import load as load_bundle
from onward.cli.console import remark
from onward.report.charts import lines, standalone
from onward_export.model_to_export import ModelToExport
from onward_export.publish import publish
from onward_training.checkpoint import Checkpoint
from onward_training.data import Dataset, load
from onward_training.evaluator import evaluate
from onward_training.external import initialise_from
from onward_training.loop import train
from onward_training.options import TrainOptions

DOCS = Path(__file__).parent.parent / "docs"
SHOES = ("Sneaker", "Ankle boot")
SGD: Mapping[str, Any] = {"optimizer": "sgd", "momentum": 0.0, "schedule": "constant", "learning_rate": 0.003}
ADAM: Mapping[str, Any] = {"learning_rate": 0.003, "schedule": "one-cycle"}
DROPOUT: Mapping[str, Any] = {"schedule": "constant", "learning_rate": 0.001, "epochs": 30}


@dataclass(frozen=True)
class Entry:
    """A line of the page.

    Args:
        part: Of the course.
        what: What the course makes there.
        model: What `--model` is.
        arguments: What `--model-args` is.
        labels: Of the data set, if not all.
        options: Further options.
    """

    part: str
    what: str
    model: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


ENTRIES = (
    Entry("1", "one layer of plain tensors, a sigmoid", "neuron", labels=SHOES, options=ADAM),
    Entry("1", "two layers of weight matrices, `view` and `mm`", "two-layers", labels=SHOES, options=ADAM),
    Entry("2", "784-256-10 from weight matrices, sigmoid", "perceptron", options=ADAM),
    Entry("2", "the same as an nn.Module, ending in a softmax", "perceptron-module", options=ADAM),
    Entry("2", "784-128-64-10 as an nn.Sequential, softmax", "sequential", options=ADAM),
    Entry("3", "log-softmax, as for NLLLoss; SGD", "sequential", {"end": "log-softmax"}, options=SGD),
    Entry("3", "logits, as for CrossEntropyLoss; SGD", "sequential", {"end": "logits"}, options=SGD),
    Entry("4", "784-256-128-64-10 on Fashion-MNIST", "classifier", {"dropout": 0.0}, options=ADAM),
    Entry("5", "without dropout, 30 epochs", "classifier", {"dropout": 0.0}, options=DROPOUT),
    Entry("5", "with dropout of 0.2, 30 epochs", "classifier", {"dropout": 0.2}, options=DROPOUT),
    Entry("6", "784-512-256-128-10, dropout, log-softmax", "network", options={"epochs": 2, **ADAM}),
)
COURSE_EPOCHS = 5


def options_of(entry: Entry) -> TrainOptions:
    chosen: dict[str, Any] = {"model": entry.model, "arguments": entry.arguments, "epochs": COURSE_EPOCHS}
    chosen.update(entry.options)
    return TrainOptions(**chosen)


def row_of(entry: Entry, checkpoint: Checkpoint, dataset: Dataset, folder: Path) -> list[str]:
    bundle = publish(ModelToExport.from_checkpoint(checkpoint), folder)
    with load_bundle(folder) as classifier:
        evaluation = evaluate(classifier.backend.run, dataset.test)
    options = "".join(f" {key}={value}" for key, value in entry.arguments.items())
    ratios = ", ".join(f"{artifact.noise_ratio:.2f}" for artifact in bundle.artifacts)
    low, high = evaluation.interval_95
    return [
        entry.part,
        entry.what,
        f"`{entry.model}{options}`",
        f"{evaluation.accuracy:.2%} ({low:.1%} to {high:.1%})",
        f"{min(epoch.train_loss for epoch in checkpoint.history):.3f}",
        ratios,
    ]


def largest_difference(one: Checkpoint, other: Checkpoint) -> float:
    return max(float((one.state_dict[name] - other.state_dict[name]).abs().max()) for name in one.state_dict)


def curves(without: Checkpoint, with_dropout: Checkpoint) -> str:
    series = {
        f"{split}, {name}": [getattr(epoch, f"{split}_loss") for epoch in checkpoint.history]
        for name, checkpoint in (("none", without), ("0.2", with_dropout))
        for split in ("train", "validation")
    }
    epochs = [epoch.epoch for epoch in without.history]
    return standalone(lines(series, x=epochs, x_label="epoch", y_label="loss"))


def train_on(dataset: Dataset, checkpoint: Checkpoint, folder: Path) -> Checkpoint:
    """Part 6: save, load, train on."""
    checkpoint.save(folder / "saved.pt")
    options = TrainOptions(model="network", epochs=2, learning_rate=1e-3, seed=1)
    return train(dataset, options, initialise=initialise_from(folder / "saved.pt"))


def page(rows: Sequence[Sequence[str]], facts: Mapping[str, str]) -> str:
    columns = ["part", "network", "`--model`", "test accuracy of the ONNX file (95 %)", "training loss"]
    columns += ["noise ratio: ONNX, TorchScript, .pt2"]
    table = [columns, ["---"] * len(columns), *rows]
    return TEMPLATE.format(table="\n".join(f"| {' | '.join(row)} |" for row in table), **facts)


TEMPLATE = """# The course's networks, trained and exported

Onward grew from a PyTorch course. Here each network of the course is trained on Fashion-MNIST and exported under the
parity gate. Part 1 has one output, so it is trained on sneakers and ankle boots only. `make course` writes this page;
`tests/test_course.py` does the same on a small scale. [Benchmarks](benchmarks.md) has speeds.

{table}

Whatever a network ends in, its bundle gives logits and probabilities. A final softmax or sigmoid is found and left
out; a log-softmax already gives logits; a single output becomes the two logits (0, z). The code is in
`training/onward_training/models/final_activation.py`; the option is `--final-activation`.

**Part 3.** nn.NLLLoss on the log-softmax and nn.CrossEntropyLoss on the logits are the same training. From the same
seed, after {num_steps} steps of SGD, no weight differs by more than {difference}: this is rounding, amplified over
{epochs} epochs.

**Part 4.** The training loss ends at {loss}, below the 0.4 that the course asks for.

**Part 5.** The network without dropout overfits: its validation loss is lowest at epoch {best_without}
({low_without}) and ends at {end_without}; with dropout it is lowest at epoch {best_with} ({low_with}) and ends at
{end_with}. `--patience 3` would have stopped the first run after epoch {stopped}. The epoch with the best validation
accuracy is kept in any case.

![Training and validation loss over 30 epochs, without dropout and with dropout of 0.2](course-dropout.svg)

**Part 6.** After 2 epochs the network classifies {saved} of the test images correctly. Saved, loaded with
`--weights`, and trained for 2 more epochs, it reaches {trained_on}. Onward reads the course's own checkpoints
(`input_size`, `output_size`, `hidden_layers`, `state_dict`) directly:
`onward evaluate checkpoint.pth --data fashion-mnist --mean 0.5 --std 0.5`.
"""


def facts_of(checkpoints: Mapping[int, Checkpoint], dataset: Dataset, folder: Path) -> dict[str, str]:
    from onward_training.evaluator import checkpoint_runner

    without, with_dropout = (checkpoints[index].history for index in (8, 9))
    lowest = [min(history, key=lambda epoch: epoch.validation_loss) for history in (without, with_dropout)]
    stopped = next(
        (
            epoch.epoch
            for epoch in without
            if epoch.epoch - max(without[: epoch.epoch], key=lambda item: item.validation_accuracy).epoch >= 3
        ),
        len(without),
    )
    again = train_on(dataset, checkpoints[10], folder)
    accuracies = [evaluate(checkpoint_runner(item), dataset.test).accuracy for item in (checkpoints[10], again)]
    return {
        "epochs": str(COURSE_EPOCHS),
        "num_steps": f"{COURSE_EPOCHS * -(-len(dataset.train) // TrainOptions().batch_size):,}",
        "difference": f"{largest_difference(checkpoints[5], checkpoints[6]):.1e}",
        "loss": f"{checkpoints[7].history[-1].train_loss:.3f}",
        "best_without": str(lowest[0].epoch),
        "low_without": f"{lowest[0].validation_loss:.3f}",
        "end_without": f"{without[-1].validation_loss:.3f}",
        "best_with": str(lowest[1].epoch),
        "low_with": f"{lowest[1].validation_loss:.3f}",
        "end_with": f"{with_dropout[-1].validation_loss:.3f}",
        "stopped": str(stopped),
        "saved": f"{accuracies[0]:.2%}",
        "trained_on": f"{accuracies[1]:.2%}",
    }


def main() -> None:
    every = load("fashion-mnist")
    checkpoints, rows = {}, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for index, entry in enumerate(ENTRIES):
            remark(f"{index + 1} of {len(ENTRIES)}: part {entry.part}, {entry.what}")
            dataset = every.select(entry.labels) if entry.labels else every
            checkpoints[index] = train(dataset, options_of(entry))
            rows.append(row_of(entry, checkpoints[index], dataset, folder / str(index)))
        torch.manual_seed(0)
        facts = facts_of(checkpoints, every, folder)
    (DOCS / "course.md").write_text(page(rows, facts), encoding="utf-8")
    (DOCS / "course-dropout.svg").write_text(curves(checkpoints[8], checkpoints[9]), encoding="utf-8")
    remark(f"wrote {DOCS / 'course.md'}")


if __name__ == "__main__":
    main()
