"""Random faults planted in ONNX files: does the gate see them, and is the right node named? `make faults`.

Writes docs/faults.md. A fault is one of those that exporters and hands have made: a weight nudged, a ReLU removed, an
axis swapped, the epsilon of a normalisation changed, a kernel's stride, an Add that became a Mul.
"""

from __future__ import annotations

import argparse
import copy
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import torch
import torchvision
from onnx import numpy_helper
from torch import nn

from benchmarks.zoo.alive import make_alive
from onward.backends import open_backend
from onward.backends.backend import Backend
from onward.bundle.golden import GoldenRecord
from onward.cli.console import remark
from onward.errors import OnwardError
from onward.signature import Signature
from onward_export.deployable import Deployable, make_deployable
from onward_export.explanation import explain, samples_to_explain
from onward_export.formats.onnx_file import OnnxExport, write_onnx
from onward_export.formats.program import export_program
from onward_export.gate import BACKEND_ERRORS
from onward_export.reference import make_reference
from onward_export.reference.samples import gather_samples

DOCS = Path(__file__).parent.parent / "docs"
SIZE = 64
LABELS = tuple(f"class {index}" for index in range(10))
RGB = Signature(SIZE, SIZE, 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), LABELS)
NUM_SAMPLES = 32

#: What a file raises that does not open or run.
BROKEN: tuple[type[Exception], ...] = (OnwardError, *BACKEND_ERRORS)

#: Edits a graph at one place, and says at which node; None where there is no such place.
Fault = Callable[[onnx.ModelProto, random.Random], str | None]


@dataclass(frozen=True)
class Subject:
    """A network that faults are planted in.

    Args:
        name: What it is called.
        network: It.
        signature: What it takes and gives.
    """

    name: str
    network: nn.Module
    signature: Signature


@dataclass(frozen=True)
class Outcome:
    """What came of one fault.

    Args:
        subject: The network.
        kind: The fault.
        planted: The node that it was planted at.
        was_seen: Whether the gate's measure closed.
        named: The node that the explanation named first.
        others: The further nodes of the same operator that it named.
        sentence: All that it said.
    """

    subject: str
    kind: str
    planted: str
    was_seen: bool
    named: str
    others: tuple[str, ...]
    sentence: str

    @property
    def is_exact(self) -> bool:
        """Whether the very node was named."""
        return self.named == self.planted

    @property
    def is_right(self) -> bool:
        """Whether it was named, or is one of those that the same operator of PyTorch became."""
        return self.planted in (self.named, *self.others)


def nudge_a_weight(model: onnx.ModelProto, choice: random.Random) -> str | None:
    """One value of a weight or bias moves by a tenth of the tensor's spread."""
    tensors = [item for item in model.graph.initializer if item.data_type == onnx.TensorProto.FLOAT and item.dims]
    if not tensors:
        return None
    tensor = choice.choice(tensors)
    array = numpy_helper.to_array(tensor).copy()
    spread = float(array.std()) or float(np.abs(array).max()) or 1.0
    array.reshape(-1)[choice.randrange(array.size)] += 0.1 * spread
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return next((_name(node) for node in model.graph.node if tensor.name in node.input), None)


def remove_a_relu(model: onnx.ModelProto, choice: random.Random) -> str | None:
    """An activation lets everything through."""
    node = _choose(model, choice, lambda node: node.op_type in ("Relu", "HardSwish", "Gelu"))
    if node is None:
        return None
    node.op_type = "Identity"
    del node.attribute[:]
    return _name(node)


def swap_an_axis(model: onnx.ModelProto, choice: random.Random) -> str | None:
    """Two axes of a Transpose are swapped, or a Softmax runs along the one before."""
    node = _choose(model, choice, lambda node: node.op_type in ("Transpose", "Softmax"))
    if node is None:
        return None
    if node.op_type == "Softmax":
        del node.attribute[:]
        node.attribute.append(onnx.helper.make_attribute("axis", -2))
        return _name(node)
    permutation = list(node.attribute[0].ints)
    one, other = choice.sample(range(len(permutation)), 2)
    permutation[one], permutation[other] = permutation[other], permutation[one]
    node.attribute[0].ints[:] = permutation
    return _name(node)


def change_an_epsilon(model: onnx.ModelProto, choice: random.Random) -> str | None:
    """The epsilon of a normalisation that is a node of its own becomes a thousand times larger."""
    node = _choose(model, choice, lambda node: node.op_type in ("LayerNormalization", "BatchNormalization"))
    if node is None:
        return None
    epsilon = next((item for item in node.attribute if item.name == "epsilon"), None)
    if epsilon is None:
        node.attribute.append(onnx.helper.make_attribute("epsilon", 1e-2))
    else:
        epsilon.f = epsilon.f * 1000
    return _name(node)


def change_a_stride(model: onnx.ModelProto, choice: random.Random) -> str | None:
    """A convolution or a pooling takes other steps."""
    node = _choose(model, choice, lambda node: any(item.name == "strides" for item in node.attribute))
    if node is None:
        return None
    strides = next(item for item in node.attribute if item.name == "strides")
    strides.ints[:] = [1 if step > 1 else 2 for step in strides.ints]
    return _name(node)


def multiply_in_place_of_adding(model: onnx.ModelProto, choice: random.Random) -> str | None:
    """A residual connection is multiplied."""
    node = _choose(model, choice, lambda node: node.op_type == "Add")
    if node is None:
        return None
    node.op_type = "Mul"
    return _name(node)


FAULTS: Mapping[str, Fault] = {
    "a weight nudged": nudge_a_weight,
    "an activation removed": remove_a_relu,
    "an axis swapped": swap_an_axis,
    "an epsilon changed": change_an_epsilon,
    "a stride changed": change_a_stride,
    "Mul for Add": multiply_in_place_of_adding,
}
#: Planted in the module before its export, since the exported file has batch norm folded into what is before it.
FOLDED_EPSILON = "a folded epsilon changed"


class Bench:
    """One network, exported soundly, in which faults can be planted again and again."""

    def __init__(self, subject: Subject, folder: Path, num_samples: int = NUM_SAMPLES) -> None:
        self.subject = subject
        self.path = folder / f"{subject.name}.onnx"
        deployable = make_deployable(subject.network, subject.signature)
        samples = gather_samples(subject.signature, None, num_samples=num_samples)
        self.record: GoldenRecord = make_reference(deployable, samples, subject.signature)
        self.written: OnnxExport = _write(deployable, self.path, subject.signature)
        self.sound = self.path.read_bytes()

    def plant(self, kind: str, seed: int) -> Outcome | None:
        """Plant one fault, and see what is said of it; None where the file has no place for such a fault."""
        choice = random.Random(f"{self.subject.name} {kind} {seed}")
        if kind == FOLDED_EPSILON:
            planted = self._write_with_another_epsilon(choice)
        else:
            model = onnx.load_from_string(self.sound)
            planted = FAULTS[kind](model, choice)
            self.path.write_bytes(model.SerializeToString())
        return None if planted is None else self._observe(kind, planted)

    def _write_with_another_epsilon(self, choice: random.Random) -> str | None:
        network = copy.deepcopy(self.subject.network)
        norms = [(name, item) for name, item in network.named_modules() if isinstance(item, nn.BatchNorm2d)]
        if not norms:
            return None
        name, norm = choice.choice(norms)
        norm.eps *= 1000
        _write(make_deployable(network, self.subject.signature), self.path, self.subject.signature)
        explanation = explain(self.path, self.written.program, samples_to_explain(self.record))
        path = f"model.{name}"
        return next((point.node for point in explanation.points if point.origins[-1].module == path), None)

    def _observe(self, kind: str, planted: str) -> Outcome:
        backend: Backend | None = None
        try:
            backend = open_backend("onnx", self.path.read_bytes(), self.subject.signature)
            was_seen = not self.record.judge("onnx", backend.run).passed
        except BROKEN:
            backend, was_seen = None, True
        samples = samples_to_explain(self.record, backend.run if backend else None)
        explanation = explain(self.path, self.written.program, samples)
        first, broken = explanation.first, explanation.broken
        named = first.node if first else broken[0] if broken else ""
        others = first.others if first else ()
        return Outcome(self.subject.name, kind, planted, was_seen, named, others, explanation.sentence())


def subjects() -> Iterator[Subject]:
    """A plain, two residual, a mobile and an attention network, random weights brought to life."""
    torch.manual_seed(0)
    plain = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten()),
        *(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, len(LABELS))),
    )
    vision = torchvision.models.VisionTransformer(SIZE, 16, 3, 4, 64, 128, num_classes=len(LABELS))
    networks = {
        "plain": plain,
        "resnet18": torchvision.models.resnet18(num_classes=len(LABELS)),
        "mobilenet_v3_small": torchvision.models.mobilenet_v3_small(num_classes=len(LABELS)),
        "vision transformer": vision,
    }
    for name, network in networks.items():
        make_alive(network, RGB)
        yield Subject(name, network, RGB)


def _write(deployable: Deployable, path: Path, signature: Signature) -> OnnxExport:
    return write_onnx(export_program(deployable, signature), path, signature, {})


def _choose(
    model: onnx.ModelProto, choice: random.Random, fits: Callable[[onnx.NodeProto], bool]
) -> onnx.NodeProto | None:
    nodes = [node for node in model.graph.node if fits(node)]
    return choice.choice(nodes) if nodes else None


def _name(node: onnx.NodeProto) -> str:
    return str(node.name or node.output[0])


def write_page(path: Path, outcomes: Sequence[Outcome], seed: int) -> None:
    """docs/faults.md."""
    seen = [item for item in outcomes if item.was_seen]
    rows = [
        "# Faults, and whether the right node is named",
        "",
        f"`make faults` planted {len(outcomes)} random faults (seed {seed}) in the ONNX files of four networks with "
        f"random weights. The gate refused {len(seen)}. For these, the explanation named the exact node in "
        f"{sum(item.is_exact for item in seen)}, and a node of the same PyTorch operator in "
        f"{sum(item.is_right for item in seen)} ({_share(sum(item.is_right for item in seen), len(seen))}).",
        "",
        "| network | fault | planted | refused | exact node | same operator |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    counts = Counter((item.subject, item.kind) for item in outcomes)
    for (subject, kind), count in counts.items():
        those = [item for item in seen if (item.subject, item.kind) == (subject, kind)]
        rows.append(
            f"| {subject} | {kind} | {count} | {len(those)} | {sum(item.is_exact for item in those)} | "
            f"{sum(item.is_right for item in those)} |"
        )
    wrong = [item for item in seen if not item.is_right]
    rows += ["", "## Wrong node named", ""]
    rows += [f"- {item.subject}, {item.kind} at `{item.planted}`: {item.sentence}" for item in wrong] or ["None."]
    unseen = Counter(f"{item.subject}, {item.kind}" for item in outcomes if not item.was_seen)
    rows += [
        "",
        "## Not refused",
        "",
        "These faults change no output by more than PyTorch's own rounding: a weight behind a unit that does not fire, "
        "an activation whose inputs are all positive, the stride of a convolution over a single pixel. Rule 5 finds "
        "each changed weight nevertheless.",
        "",
    ]
    rows += [f"- {what}: {count}" for what, count in unseen.items()] or ["None."]
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.0%}" if whole else "–"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--each", type=int, default=8, help="faults of a kind, in each network")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    outcomes: list[Outcome] = []
    with tempfile.TemporaryDirectory() as folder:
        for subject in subjects():
            bench = Bench(subject, Path(folder))
            for kind in (*FAULTS, FOLDED_EPSILON):
                found = (bench.plant(kind, 1000 * arguments.seed + at) for at in range(arguments.each))
                those = [item for item in found if item is not None]
                outcomes += those
                right = sum(item.is_right for item in those if item.was_seen)
                if those:
                    remark(f"{subject.name}, {kind}: {right} of {sum(item.was_seen for item in those)} seen")
    write_page(DOCS / "faults.md", outcomes, arguments.seed)


if __name__ == "__main__":
    main()
