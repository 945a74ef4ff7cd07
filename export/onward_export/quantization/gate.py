"""Gate: what the written file must show before it is published. It is opened anew, in a fresh process.

1. The file holds the float32 model, rounded, and nothing else (`account`).
2. Its integer kernels compute what the graph means in float64 (`simulation`).
3. What the task loses on held-out images is within the budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from onward.backends import open_artifact
from onward.bundle import Artifact, Bundle
from onward.bundle.golden import GoldenRecord
from onward.errors import NotExportable, ParityFailure
from onward.feed import from_pixels
from onward.fidelity import Budget, Fidelity
from onward.lower_precision import Deviation, judge_deviations, quantization_errors
from onward.parity import CONSTANT, Noise, Outputs
from onward.signature import Signature
from onward.tasks import Task, task_of
from onward_export.opening import ArtifactProcess, OpenedArtifact
from onward_export.quantization.account import unexplained
from onward_export.quantization.images import QuantizationImages
from onward_export.quantization.options import ARTIFACT
from onward_export.quantization.placement import place
from onward_export.quantization.selection import Choice, Quantizer
from onward_export.quantization.simulation import Simulation

__all__ = ["CheckedFile", "check_file", "noise_of"]


@dataclass(frozen=True)
class CheckedFile:
    """What the gate measured of a file.

    Args:
        outputs: Kind -> output -> float32: by onnxruntime, on the samples of the golden record.
        simulated: The same in float64, by the simulation.
        deviations: Of the two, in quantisation errors.
        noise_ratio: The worst one. It judges nothing here: float32's noise is far smaller than a step of an integer.
        fidelity: What the task loses.
    """

    outputs: Mapping[str, Outputs]
    simulated: Mapping[str, Outputs]
    deviations: tuple[Deviation, ...]
    noise_ratio: float
    fidelity: Fidelity


def check_file(
    path: Path,
    quantizer: Quantizer,
    choice: Choice,
    bundle: Bundle,
    parent: Artifact,
    images: QuantizationImages,
    budget: Budget,
) -> CheckedFile:
    """Judge a file.

    Args:
        path: The file.
        quantizer: What it was made by.
        choice: Which nodes stay in float32.
        bundle: The bundle of its parent.
        parent: The float32 artifact that it was made from.
        images: Held-out images judge it.
        budget: What may be lost.

    Raises:
        BackendError: It does not open or run.
        NotExportable: Its operators cannot be simulated.
        ParityFailure: It is not the float32 model, rounded; or its kernels do not compute what it means; or it is over
            the budget.
    """
    golden, task, model = bundle.golden(), task_of(bundle.signature), onnx.load(path)
    placement = place(quantizer.prepared, choice.in_float)
    if wrong := unexplained(model, quantizer.prepared, placement, quantizer.ranges):
        raise ParityFailure(f"{path.name} is not the float32 model, rounded: {wrong[0]}")
    with ArtifactProcess(("onnx",)) as process:
        opened = process.open("onnx", path, bundle.signature, requires=parent.requires)
        outputs = {kind: opened.run(feed) for kind, feed in golden.inputs.items()}
        simulated = _simulate(model, golden)
        deviations = _deviations(outputs, simulated, golden, task)
        ratio = golden.judge_replay(ARTIFACT, opened.replay(golden.inputs), task).noise_ratio
        fidelity = _fidelity(opened, bundle, parent, images, noise_of(golden), budget)
    if problems := fidelity.problems():
        raise ParityFailure(_refusal(problems, choice))
    return CheckedFile(outputs, simulated, deviations, ratio, fidelity)


def noise_of(golden: GoldenRecord) -> dict[str, Noise]:
    """The largest noise of each output in float32, over all kinds of samples but constant ones."""
    kinds = [kind for kind in golden.noise if kind != CONSTANT] or list(golden.noise)
    names = golden.noise[kinds[0]]
    return {name: max((golden.noise[kind][name] for kind in kinds), key=lambda noise: noise.floor) for name in names}


def _simulate(model: onnx.ModelProto, golden: GoldenRecord) -> dict[str, Outputs]:
    try:
        simulation = Simulation(model)
        return {kind: simulation.run(np.asarray(feed)) for kind, feed in golden.inputs.items()}
    except Exception as error:  # the evaluator raises errors of every kind
        raise NotExportable(
            f"{ARTIFACT} cannot be computed in float64, so that nothing would prove its kernels: {error}."
        ) from error


def _deviations(
    outputs: Mapping[str, Outputs], simulated: Mapping[str, Outputs], golden: GoldenRecord, task: Task
) -> tuple[Deviation, ...]:
    errors = quantization_errors(simulated, golden.reference, golden.noise)
    rows = judge_deviations({kind: [item] for kind, item in outputs.items()}, simulated, errors, task)
    for row in rows:
        if not row.passed:
            raise ParityFailure(
                f"{ARTIFACT}: onnxruntime's {row.output} of {row.kind} samples is {row.ratio:.1f} times the "
                f"quantisation error away from what the file means. The kernels of this processor saturate, or are "
                f"wrong: 7 bits (`--weight-bits 7`) do not saturate."
            )
    return rows


def _fidelity(
    opened: OpenedArtifact,
    bundle: Bundle,
    parent: Artifact,
    images: QuantizationImages,
    noise: Mapping[str, Noise],
    budget: Budget,
) -> Fidelity:
    signature = bundle.signature
    assert isinstance(signature, Signature)
    reference = open_artifact(bundle, parent)
    expected: list[Outputs] = []
    given: list[Outputs] = []
    targets = []
    for pixels, classes in images.batches():
        feed = from_pixels(pixels, signature)
        expected.append(reference.run(feed))
        given.append(opened.run(feed))
        targets.append(classes)
    return task_of(signature).fidelity(_joined(expected), _joined(given), np.concatenate(targets), noise, budget)


def _joined(batches: list[Outputs]) -> Outputs:
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def _refusal(problems: list[str], choice: Choice) -> str:
    table = "; ".join(
        f"{trial.num_in_float}: KL {trial.kl:.2g}, {trial.agreement:.1%} agree" for trial in choice.trials
    )
    return (
        f"{ARTIFACT} is over its budget, so it is not published. {' '.join(problems)} Nodes in float32, on the ranking "
        f"images: {table}. More held-out images make the bound smaller, and --max-loss allows more."
    )
