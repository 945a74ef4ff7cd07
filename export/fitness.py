"""Fitness: whether a module may be a reference; else it is refused, and the operator or module is named.

Rule 1 of docs/parity.md. Every check raises NotExportable.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from export.deployable import ByOutput, run
from export.watch import first_difference, watch
from runtime.errors import NotExportable, reason_of
from runtime.golden import GoldenRecord
from runtime.parity import BATCH_SIZES, CONSTANT
from runtime.signature import OUTPUTS

__all__ = [
    "check_alive",
    "check_batching",
    "check_conditioning",
    "check_finite",
    "check_repeats",
    "check_runs",
    "check_weights",
    "check_width",
]

#: Splitting a batch may move a float64 output by this share of the output's scale: rounding, and no more.
ROUNDING_FLOAT64 = 1e-9


def check_weights(deployable: nn.Module) -> None:
    """No weight is NaN or infinite."""
    parameters = {name for name, _ in deployable.named_parameters()}
    for name, tensor in deployable.state_dict().items():
        # an infinite buffer may be a mask; an infinite weight is a run that diverged
        bad = ~torch.isfinite(tensor) if name in parameters else torch.isnan(tensor)
        if bad.any():
            value = "NaN" if torch.isnan(tensor).any() else "infinite"
            raise NotExportable(
                f"{int(bad.sum())} of {tensor.numel()} values of {name} are {value}: the training has diverged, "
                f"or the file is damaged. Nothing was exported."
            )


def check_runs(deployable: nn.Module, some: NDArray[np.uint8], num_classes: int) -> None:
    """It runs on batches of several sizes, and its outputs are as wide as there are labels."""
    for size in (2, max(BATCH_SIZES), 1):
        images = torch.tensor(some[:size])
        try:
            outputs = deployable(images)
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise NotExportable(f"the model does not run on a batch of size {size}: {reason_of(error)}") from error
        shapes = [tuple(output.shape) for output in outputs]
        if shapes != [(len(images), num_classes)] * len(OUTPUTS):
            raise NotExportable(
                f"the model gives {shapes[0]} for {len(images)} images, the signature has {num_classes} labels: "
                f"expected ({len(images)}, {num_classes})."
            )


def check_repeats(deployable: nn.Module, some: NDArray[np.uint8]) -> None:
    """Two runs agree bit for bit."""
    one, other = run(deployable, some), run(deployable, some)
    if all(np.array_equal(one[name], other[name], equal_nan=True) for name in OUTPUTS):
        return
    image = torch.tensor(some[:8])
    culprit = first_difference(watch(deployable, image), watch(deployable, image), _unequal)
    raise NotExportable(
        f"two runs of the model in eval mode differ, first at {culprit}: something in it is random. Dropout that "
        f"`eval()` does not reach (`F.dropout` without `training=self.training`) does this."
    )


def check_width(module: nn.Module, some: NDArray[np.uint8], dtype: torch.dtype) -> None:
    """No operator computes in a narrower float than the model runs in."""
    width = torch.finfo(dtype).bits
    for operation in watch(module, torch.tensor(some[:2])):
        for output in operation.outputs:
            if torch.finfo(output.dtype).bits < width:
                raise NotExportable(
                    f"{operation} computes in {_name(output.dtype)} while the model runs in {_name(dtype)}: an "
                    f"autocast or a cast inside `forward` is still there. Remove it for export."
                )


def check_finite(module: nn.Module, samples: Mapping[str, NDArray[np.uint8]], outputs: Mapping[str, ByOutput]) -> None:
    """No output is NaN or infinite."""
    for kind, arrays in outputs.items():
        for name, array in arrays.items():
            wrong = np.asarray(~np.isfinite(array).all(axis=1))
            if wrong.any():
                image = torch.tensor(samples[kind][np.flatnonzero(wrong)[:1]])
                culprit = next(
                    op for op in watch(module, image) if any(not torch.isfinite(o).all() for o in op.outputs)
                )
                raise NotExportable(
                    f"{name} is NaN or infinite for {int(wrong.sum())} of {len(wrong)} {kind} images, first at "
                    f"{culprit}."
                )


def check_batching(
    double: nn.Module, samples: Mapping[str, NDArray[np.uint8]], reference: Mapping[str, ByOutput]
) -> None:
    """Splitting a batch changes float64 outputs by rounding only."""
    for kind, images in samples.items():
        alone = run(double, images, 1)
        apart = {name: np.abs(alone[name] - reference[kind][name]).max() for name in OUTPUTS}
        if all(apart[name] <= ROUNDING_FLOAT64 * np.abs(reference[kind][name]).max() for name in OUTPUTS):
            continue
        pair = torch.tensor(images[:2])
        culprit = first_difference(watch(double, pair[:1]), watch(double, pair), _first_row_differs)
        raise NotExportable(
            f"the output for an image depends on what else is in its batch, first at {culprit}: batch "
            f"normalisation without running statistics does this. Train with `track_running_stats=True`."
        )


def check_alive(record: GoldenRecord) -> None:
    """The outputs depend on the input."""
    kinds = [kind for kind in record.inputs if kind != CONSTANT]
    for name in OUTPUTS:
        outputs = np.concatenate([record.reference[kind][name] for kind in kinds])
        floor = max(record.noise[kind][name].floor for kind in kinds)
        if np.ptp(outputs, axis=0).max() <= floor:
            raise NotExportable(
                f"{name} is the same for all {len(outputs)} images: the output does not depend on the input, so "
                f"nothing can be proven. A last layer of zeros does this; was the model trained?"
            )


def check_conditioning(record: GoldenRecord) -> None:
    """PyTorch itself is near enough to the mathematics to measure by."""
    for kind, by_output in record.noise.items():
        for name, noise in by_output.items():
            if kind != CONSTANT and noise.is_ill_conditioned:
                raise NotExportable(
                    f"PyTorch's own float32 error on {kind} images is {noise.floor:.1e}, more than 1e-4 of the "
                    f"largest {name} ({noise.scale:.1e}): the model is ill-conditioned, and no export of it could "
                    f"be told from a wrong one."
                )


def _unequal(one: Tensor, other: Tensor) -> bool:
    return one.shape != other.shape or not torch.equal(one.nan_to_num(), other.nan_to_num())


def _first_row_differs(alone: Tensor, pair: Tensor) -> bool:
    if alone.ndim != pair.ndim or not alone.ndim or alone.shape[0] * 2 != pair.shape[0]:
        return False
    scale = float(pair.abs().max()) or 1.0
    first = pair[: alone.shape[0]]
    return alone.shape != first.shape or float((alone - first).abs().max()) > ROUNDING_FLOAT64 * scale


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
