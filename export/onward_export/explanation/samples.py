"""Samples: those on which an artifact is furthest from the reference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from onward.bundle.golden import GoldenRecord
from onward.feed import Feed, take
from onward.parity import CONSTANT, Outputs, regroup

__all__ = ["NUM_EXPLAINED", "worst_samples"]

#: Every inner value of so many samples is held in memory.
NUM_EXPLAINED = 8


def worst_samples(record: GoldenRecord, run: Callable[[Feed], Outputs] | None = None) -> Feed:
    """The samples with the largest errors, of the kind that has the largest; the first ones where nothing runs.

    Args:
        record: Samples, reference and noise.
        run: The artifact, if it runs.
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
