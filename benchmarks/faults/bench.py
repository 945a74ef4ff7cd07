"""Bench: plants one fault in the ONNX file of a network and gives the verdict of the whole gate on it."""

from __future__ import annotations

import copy
import hashlib
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks.faults.networks import NetworkUnderTest
from benchmarks.faults.node_faults import NODE_FAULTS
from benchmarks.faults.planted import Fault, Planted
from benchmarks.faults.weight_faults import WEIGHT_FAULTS
from onward.backends import Threads, open_backend
from onward.backends.backend import Backend
from onward.backends.onnxruntime_backend import ORT_ERRORS
from onward.bundle.golden import GoldenRecord
from onward.errors import OnwardError
from onward.feed import Feed
from onward.parity import CONSTANT, regroup
from onward_export.deployable import make_deployable
from onward_export.explanation import Expected, Explanation, expected_for, explain
from onward_export.formats.onnx_file import OnnxExport, write_onnx
from onward_export.formats.program import export_program
from onward_export.reference import make_reference
from onward_export.reference.samples import gather_samples
from onward_export.weights import KnownValues, WeightCheck, check_onnx

__all__ = ["FAULTS", "FOLDED_EPSILON", "FaultBench", "Outcome"]

#: Errors of a file that does not open or run.
BROKEN: tuple[type[Exception], ...] = (OnwardError, *ORT_ERRORS, RuntimeError, ValueError, TypeError)
#: Planted in the module before its export, because the exported file has batch norm folded into the layer before it.
FOLDED_EPSILON = "a folded epsilon changed"
FAULTS: Mapping[str, Fault] = {**WEIGHT_FAULTS, **NODE_FAULTS}

#: As many as the explanation compares, so that their inner values are computed once for all faults.
NUM_SAMPLES = 8
#: A fault that nothing sees is measured on so many samples of another seed.
NUM_FRESH, FRESH_SEED = 128, 1


@dataclass(frozen=True)
class Outcome:
    """The verdict on one fault.

    Args:
        network: The name of the network.
        kind: The fault.
        planted: The node with the fault.
        value: The stored value that was changed, if one was.
        found_by: `outputs`, `account` where only the account of weights found it, or empty.
        named: What was named first: the node, or the stored value.
        others: The other nodes of the same operator, or the other stored values, that were named.
        sentence: The sentence of the explanation or of the account.
        fresh_ratio: The largest noise ratio on fresh samples, of a fault that nothing found.
        is_escape: Whether the fault moves fresh outputs beyond the noise, and nothing found it.
        digest: Of the faulty file.
        seconds: How long it took.
    """

    network: str
    kind: str
    planted: str
    value: str = ""
    found_by: str = ""
    named: str = ""
    others: tuple[str, ...] = ()
    sentence: str = ""
    fresh_ratio: float = 0.0
    is_escape: bool = False
    digest: str = ""
    seconds: float = 0.0

    @property
    def was_seen(self) -> bool:
        """Whether the outputs gave it away."""
        return self.found_by == "outputs"

    @property
    def is_exact(self) -> bool:
        """Whether exactly this node, or this stored value, was named first."""
        return self.named == (self.planted if self.was_seen or not self.value else self.value)

    @property
    def is_right(self) -> bool:
        """Whether this node, or another node of the same PyTorch operator, or this stored value, was named."""
        return (self.planted if self.was_seen or not self.value else self.value) in (self.named, *self.others)


class FaultBench:
    """One network with a correct ONNX file, in which faults can be planted repeatedly.

    Raises:
        RuntimeError: The gate refuses the correct file, or a node of it is named.
    """

    def __init__(self, network: NetworkUnderTest, folder: Path, num_samples: int = NUM_SAMPLES) -> None:
        self.network = network
        self.path = folder / f"{network.name}.onnx"
        self.deployable = make_deployable(network.network, network.signature)
        samples = gather_samples(network.signature, None, num_samples=num_samples)
        self.record: GoldenRecord = make_reference(self.deployable, samples, network.signature).record
        self.explained: Feed = next(feed for kind, feed in self.record.inputs.items() if kind != CONSTANT)
        self.program = export_program(self.deployable, network.signature)
        self.written: OnnxExport = write_onnx(self.program, self.path, network.signature, {})
        self.sound = self.path.read_bytes()
        self.state = self.deployable.state_dict()
        self.known = KnownValues(self.state, self.program, self.written.program)
        self.expected: Mapping[str, Expected] = expected_for(self.path, self.written.program, self.explained)
        self.sound_explanation = self._explain()
        if self.sound_explanation.first is not None:
            raise RuntimeError(f"the correct file of {network.name}: {self.sound_explanation.sentence()}")
        account = self._account()
        verdict = self.record.judge("onnx", self._open(self.sound).run)
        if not account.passed or not verdict.passed:
            reason = "; ".join(account.unexplained) or f"noise ratio {verdict.noise_ratio:.1f}"
            raise RuntimeError(f"the gate refuses the correct file of {network.name}: {reason}")

    def plant(self, kind: str, seed: int, known_digests: frozenset[str] = frozenset()) -> Outcome | None:
        """Plant one fault and give the verdict.

        Args:
            kind: One of `FAULTS`, or `FOLDED_EPSILON`.
            seed: Chooses the place.
            known_digests: Those of files that were tried already.

        Returns:
            None where the file has no place for such a fault, or the faulty file was tried already.
        """
        began = time.perf_counter()
        choice = random.Random(f"{self.network.name} {kind} {seed}")
        if kind == FOLDED_EPSILON:
            planted = self._write_with_another_epsilon(choice)
        else:
            model = onnx.load_from_string(self.sound)
            planted = FAULTS[kind](model, choice)
            if planted is not None:
                self.path.write_bytes(model.SerializeToString())
        if planted is None:
            return None
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()[:16]
        if digest in known_digests:
            return None
        found = self._observe(planted)
        seconds = time.perf_counter() - began
        place = (self.network.name, kind, planted.node, planted.value)
        return Outcome(*place, digest=digest, seconds=seconds, **found)

    def _write_with_another_epsilon(self, choice: random.Random) -> Planted | None:
        module = copy.deepcopy(self.network.network)
        norms = [(name, item) for name, item in module.named_modules() if isinstance(item, _BatchNorm)]
        nodes = {point.origins[-1].module: point.node for point in self.sound_explanation.points}
        places = [(name, norm) for name, norm in norms if f"model.{name}" in nodes]
        if not places:
            return None
        name, norm = choice.choice(places)
        norm.eps *= 1000
        deployable = make_deployable(module, self.network.signature)
        write_onnx(export_program(deployable, self.network.signature), self.path, self.network.signature, {})
        return Planted(nodes[f"model.{name}"])

    def _observe(self, planted: Planted) -> dict[str, Any]:
        """What the gate says of the file."""
        try:
            backend = self._open(self.path.read_bytes())
            passed = self.record.judge("onnx", backend.run).passed
        except BROKEN:
            return self._seen()
        if not passed:
            return self._seen()
        account = self._account()
        if not account.passed:
            return _accounted(account, planted)
        ratio, beyond = self._fresh_ratio(backend)
        return {"fresh_ratio": ratio, "is_escape": beyond}

    def _seen(self) -> dict[str, Any]:
        explanation = self._explain()
        first, broken = explanation.first, explanation.broken
        return {
            "found_by": "outputs",
            "named": first.node if first else broken[0] if broken else "",
            "others": first.others if first else explanation.before_broken,
            "sentence": explanation.sentence(),
        }

    def _explain(self) -> Explanation:
        return explain(self.path, self.written.program, self.explained, expected=self.expected)

    def _account(self) -> WeightCheck:
        decomposed = self.written.program
        return check_onnx(self.path, self.state, self.program, decomposed, self.explained, known=self.known)

    def _open(self, data: bytes) -> Backend:
        return open_backend("onnx", data, self.network.signature, threads=Threads(1))

    @cached_property
    def _fresh(self) -> GoldenRecord:
        signature = self.network.signature
        samples = gather_samples(signature, None, num_samples=NUM_FRESH, seed=FRESH_SEED)
        return make_reference(self.deployable, samples, signature).record

    def _fresh_ratio(self, backend: Backend) -> tuple[float, bool]:
        """The largest noise ratio on fresh samples, in large batches, and whether the gate would refuse it."""
        fresh = self._fresh
        outputs = {
            kind: [regroup(backend.run, feed, 32)] for kind, feed in fresh.inputs.items() if kind in fresh.reference
        }
        verdict = fresh.judge_replay("onnx", outputs)
        ratios = [row.noise_ratio for row in verdict.comparisons if row.kind != CONSTANT]
        return float(np.max(ratios)), not verdict.passed


def _accounted(account: WeightCheck, planted: Planted) -> dict[str, Any]:
    """The unexplained values. A node that was changed is named by the values that it reads, in the reason."""
    unexplained = [value for value in account.values if value.way == "unexplained"]
    names = [value.name for value in unexplained]
    names += [planted.node for value in unexplained if not planted.value and planted.node in value.what]
    return {
        "found_by": "account",
        "named": names[0] if names else "",
        "others": tuple(names[1:]),
        "sentence": "; ".join(account.unexplained)[:300],
    }
