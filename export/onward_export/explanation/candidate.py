"""Candidate: the inner values of an ONNX file, and the samples to compute them for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from onward.backends.onnxruntime_backend import ORT_ERRORS, run_as_written
from onward.bundle.golden import GoldenRecord
from onward.errors import BackendError, reason_of
from onward.feed import Feed, take
from onward.parity import CONSTANT, Outputs, regroup

__all__ = ["NUM_EXPLAINED", "FailingNode", "RunAsWritten", "load_graph", "run_candidate", "samples_to_explain"]

#: `run_as_written` of onnxruntime's backend, or the same in another process.
RunAsWritten = Callable[[bytes, Mapping[str, NDArray[Any]], Sequence[str]], list[NDArray[Any]]]
#: What a graph raises that does not open or run.
BROKEN: tuple[type[Exception], ...] = (BackendError, *ORT_ERRORS)


@dataclass(frozen=True)
class FailingNode:
    """The first node with which a graph no longer opens or runs.

    Args:
        index: The position of the node in the file.
        reason: The error of onnxruntime.
    """

    index: int
    reason: str


def load_graph(path: Path) -> onnx.ModelProto:
    """Load a file with the weights beside it."""
    return onnx.load(path)


def run_candidate(
    model: onnx.ModelProto,
    feed: Mapping[str, NDArray[Any]],
    names: Sequence[str],
    run: RunAsWritten = run_as_written,
) -> tuple[dict[str, NDArray[Any]], FailingNode | None]:
    """Run a graph without onnxruntime's optimisations and return inner values.

    Args:
        model: The graph. Where it does not open or run as a whole, the longest beginning that does is run.
        feed: Input name -> array.
        names: The names of the values to return.
        run: Runs a graph node by node; in another process, if a node may crash onnxruntime.

    Returns:
        Name -> value, for all that were computed; and the first node that does not run, if there is one.
    """
    nodes = len(model.graph.node)
    values, reason = _run_beginning(model, nodes, feed, names, run)
    if values is not None:
        return values, None
    runs, breaks = 0, nodes  # the first `runs` nodes run, the first `breaks` do not
    while breaks - runs > 1:
        middle = (runs + breaks) // 2
        found, why = _run_beginning(model, middle, feed, names, run)
        if found is None:
            breaks, reason = middle, why
        else:
            runs = middle
    found, _ = _run_beginning(model, runs, feed, names, run)
    return found or {}, FailingNode(breaks - 1, reason)


def _run_beginning(
    model: onnx.ModelProto,
    count: int,
    feed: Mapping[str, NDArray[Any]],
    names: Sequence[str],
    run: RunAsWritten,
) -> tuple[dict[str, NDArray[Any]] | None, str]:
    beginning = onnx.ModelProto()
    beginning.CopyFrom(model)
    del beginning.graph.node[count:]
    del beginning.graph.output[:]
    del beginning.graph.value_info[:]  # these shapes may be wrong for the changed graph; onnxruntime infers them again
    produced = [name for node in beginning.graph.node for name in node.output if name]
    kept = [name for name in produced if name in set(names)]
    # the last ones too, else they would not run
    last = [name for name in beginning.graph.node[-1].output if name] if beginning.graph.node else []
    outputs = list(dict.fromkeys([*kept, *last]))
    if not outputs:
        return {}, ""
    beginning.graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    try:
        found = run(beginning.SerializeToString(), feed, outputs)
    except BROKEN as error:
        return None, reason_of(error)
    return {name: np.asarray(value) for name, value in zip(outputs, found, strict=True) if name in kept}, ""


#: Every inner value for this many samples is held in memory.
NUM_EXPLAINED = 8


def samples_to_explain(record: GoldenRecord, run: Callable[[Feed], Outputs] | None = None) -> Feed:
    """The samples with the largest errors, of one kind; the first samples if the artifact does not run.

    Args:
        record: Samples, reference and noise.
        run: Runs the artifact; None if it does not run.
    """
    kinds = [kind for kind in record.inputs if kind != CONSTANT]
    if run is None:
        return take(record.inputs[kinds[0]], slice(NUM_EXPLAINED))
    errors = {kind: _errors(record, kind, regroup(run, record.inputs[kind], NUM_EXPLAINED)) for kind in kinds}
    worst = max(kinds, key=lambda kind: float(np.nan_to_num(errors[kind], nan=np.inf).max()))
    order = np.argsort(-np.nan_to_num(errors[worst], nan=np.inf), kind="stable")[:NUM_EXPLAINED]
    return take(record.inputs[worst], order)


def _errors(record: GoldenRecord, kind: str, outputs: Outputs) -> NDArray[np.float64]:
    ratios = [
        np.abs(outputs[name] - expected).max(1) / record.noise[kind][name].floor
        for name, expected in record.reference[kind].items()
    ]
    worst: NDArray[np.float64] = np.stack(ratios).max(0)
    return worst
