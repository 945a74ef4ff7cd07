"""Random faults in ONNX files: does the gate find them, and is the right node named? `make faults`.

Writes docs/faults.md. The faults are those that exporters and people have made: a changed weight, a removed ReLU, a
swapped axis, another epsilon of a normalisation, another stride, a Mul in place of an Add.
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
from onward.backends.onnxruntime_backend import ORT_ERRORS
from onward.bundle.golden import GoldenRecord
from onward.cli.console import remark
from onward.errors import OnwardError
from onward.signature import Signature
from onward_export.deployable import Deployable, make_deployable
from onward_export.explanation import explain, samples_to_explain
from onward_export.formats.onnx_file import OnnxExport, write_onnx
from onward_export.formats.program import export_program
from onward_export.reference import make_reference
from onward_export.reference.samples import gather_samples

DOCS = Path(__file__).parent.parent / "docs"
SIZE = 64
LABELS = tuple(f"class {index}" for index in range(10))
RGB = Signature(SIZE, SIZE, 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), LABELS)
NUM_SAMPLES = 32

#: Errors of a file that does not open or run.
BROKEN: tuple[type[Exception], ...] = (OnwardError, *ORT_ERRORS, RuntimeError, ValueError, TypeError)

#: Edits a graph at one place and returns the node; None where there is no such place.
Fault = Callable[[onnx.ModelProto, random.Random], str | None]


@dataclass(frozen=True)
class NetworkUnderTest:
    """A network in which faults are planted.

    Args:
        name: Its name.
        network: The module.
        signature: Its inputs and outputs.
    """

    name: str
    network: nn.Module
    signature: Signature


@dataclass(frozen=True)
class Outcome:
    """The result of one fault.

    Args:
        network: The name of the network.
        kind: The fault.
        planted: The node with the fault.
        was_seen: Whether the gate failed.
        named: The node that the explanation named first.
        others: The other nodes of the same operator that it named.
        sentence: The sentence of the explanation.
    """

    network: str
    kind: str
    planted: str
    was_seen: bool
    named: str
    others: tuple[str, ...]
    sentence: str

    @property
    def is_exact(self) -> bool:
        """Whether exactly this node was named."""
        return self.named == self.planted

    @property
    def is_right(self) -> bool:
        """Whether this node, or another node of the same PyTorch operator, was named."""
        return self.planted in (self.named, *self.others)


def nudge_a_weight(model: onnx.ModelProto, choice: random.Random) -> str | None:
    """Change one value of a weight or bias by a tenth of the tensor's standard deviation."""
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
    """Replace an activation by an Identity."""
    node = _choose(model, choice, lambda node: node.op_type in ("Relu", "HardSwish", "Gelu"))
    if node is None:
        return None
    node.op_type = "Identity"
    del node.attribute[:]
    return _name(node)


def swap_an_axis(model: onnx.ModelProto, choice: random.Random) -> str | None:
    """Swap two axes of a Transpose, or run a Softmax along the axis before."""
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
    """Multiply the epsilon of a normalisation node by 1000."""
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
    """Change the strides of a convolution or pooling."""
    node = _choose(model, choice, lambda node: any(item.name == "strides" for item in node.attribute))
    if node is None:
        return None
    strides = next(item for item in node.attribute if item.name == "strides")
    strides.ints[:] = [1 if step > 1 else 2 for step in strides.ints]
    return _name(node)


def multiply_in_place_of_adding(model: onnx.ModelProto, choice: random.Random) -> str | None:
    """Multiply in place of adding."""
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
#: Planted in the module before its export, because the exported file has batch norm folded into the layer before it.
FOLDED_EPSILON = "a folded epsilon changed"


class FaultBench:
    """One network with a correct ONNX file, in which faults can be planted repeatedly."""

    def __init__(self, network: NetworkUnderTest, folder: Path, num_samples: int = NUM_SAMPLES) -> None:
        self.network = network
        self.path = folder / f"{network.name}.onnx"
        deployable = make_deployable(network.network, network.signature)
        samples = gather_samples(network.signature, None, num_samples=num_samples)
        self.record: GoldenRecord = make_reference(deployable, samples, network.signature).record
        self.written: OnnxExport = _write(deployable, self.path, network.signature)
        self.sound = self.path.read_bytes()

    def plant(self, kind: str, seed: int) -> Outcome | None:
        """Plant one fault and return the result; None where the file has no place for such a fault."""
        choice = random.Random(f"{self.network.name} {kind} {seed}")
        if kind == FOLDED_EPSILON:
            planted = self._write_with_another_epsilon(choice)
        else:
            model = onnx.load_from_string(self.sound)
            planted = FAULTS[kind](model, choice)
            self.path.write_bytes(model.SerializeToString())
        return None if planted is None else self._observe(kind, planted)

    def _write_with_another_epsilon(self, choice: random.Random) -> str | None:
        module = copy.deepcopy(self.network.network)
        norms = [(name, item) for name, item in module.named_modules() if isinstance(item, nn.BatchNorm2d)]
        if not norms:
            return None
        name, norm = choice.choice(norms)
        norm.eps *= 1000
        _write(make_deployable(module, self.network.signature), self.path, self.network.signature)
        explanation = explain(self.path, self.written.program, samples_to_explain(self.record))
        path = f"model.{name}"
        return next((point.node for point in explanation.points if point.origins[-1].module == path), None)

    def _observe(self, kind: str, planted: str) -> Outcome:
        backend: Backend | None = None
        try:
            backend = open_backend("onnx", self.path.read_bytes(), self.network.signature)
            was_seen = not self.record.judge("onnx", backend.run).passed
        except BROKEN:
            backend, was_seen = None, True
        samples = samples_to_explain(self.record, backend.run if backend else None)
        explanation = explain(self.path, self.written.program, samples)
        first, broken = explanation.first, explanation.broken
        named = first.node if first else broken[0] if broken else ""
        others = first.others if first else ()
        return Outcome(self.network.name, kind, planted, was_seen, named, others, explanation.sentence())


def networks() -> Iterator[NetworkUnderTest]:
    """A plain, a residual, a mobile and an attention network with random weights."""
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
        yield NetworkUnderTest(name, network, RGB)


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
    counts = Counter((item.network, item.kind) for item in outcomes)
    for (network, kind), count in counts.items():
        those = [item for item in seen if (item.network, item.kind) == (network, kind)]
        rows.append(
            f"| {network} | {kind} | {count} | {len(those)} | {sum(item.is_exact for item in those)} | "
            f"{sum(item.is_right for item in those)} |"
        )
    wrong = [item for item in seen if not item.is_right]
    rows += ["", "## Wrong node named", ""]
    rows += [f"- {item.network}, {item.kind} at `{item.planted}`: {item.sentence}" for item in wrong] or ["None."]
    unseen = Counter(f"{item.network}, {item.kind}" for item in outcomes if not item.was_seen)
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
        for network in networks():
            bench = FaultBench(network, Path(folder))
            for kind in (*FAULTS, FOLDED_EPSILON):
                found = (bench.plant(kind, 1000 * arguments.seed + at) for at in range(arguments.each))
                those = [item for item in found if item is not None]
                outcomes += those
                right = sum(item.is_right for item in those if item.was_seen)
                if those:
                    remark(f"{network.name}, {kind}: {right} of {sum(item.was_seen for item in those)} seen")
    write_page(DOCS / "faults.md", outcomes, arguments.seed)


if __name__ == "__main__":
    main()
