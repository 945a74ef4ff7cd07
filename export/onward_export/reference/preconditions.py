"""Preconditions: what must hold for a module to be a reference. The error names the operator or module.

Rule 1 of docs/parity.md. Every check raises NotExportable.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from onward.bundle.golden import GoldenRecord
from onward.errors import NotExportable, reason_of
from onward.feed import Feed, arrays_of, num_samples, take
from onward.parity import ASSERT_CLOSE_ATOL, ASSERT_CLOSE_RTOL, CONSTANT, Noise
from onward.signature import AnySignature
from onward_export.deployable import ByOutput, Deployable, run, tensors_of
from onward_export.reference.operator_trace import first_difference, trace_operators
from onward_export.reference.widening import Cast

__all__ = [
    "MODEL_ERRORS",
    "check_batching",
    "check_casts",
    "check_conditioning",
    "check_depends_on_input",
    "check_deterministic",
    "check_finite",
    "check_runs",
    "check_weights",
    "refusing",
]

#: Splitting a batch may change a float64 output by this share of its scale, which is rounding.
ROUNDING_FLOAT64 = 1e-9
#: What a module raises that does not run on a batch.
MODEL_ERRORS = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError, ArithmeticError)


def check_weights(deployable: nn.Module) -> None:
    """No weight is NaN or infinite."""
    parameters = {name for name, _ in deployable.named_parameters()}
    for name, tensor in deployable.state_dict().items():
        # an infinite buffer may be a mask; an infinite weight comes from diverged training
        bad = ~torch.isfinite(tensor) if name in parameters else torch.isnan(tensor)
        if bad.any():
            value = "NaN" if torch.isnan(tensor).any() else "infinite"
            raise NotExportable(
                f"{int(bad.sum())} of {tensor.numel()} values of {name} are {value}: the training has diverged, "
                f"or the file is damaged. Export an earlier checkpoint. Nothing was exported."
            )


def check_runs(deployable: Deployable, samples: Mapping[str, Feed], signature: AnySignature) -> None:
    """The module runs on every kind of sample, one and two at once, and gives the signature's types and sizes."""
    first = next(iter(samples))
    for kind, size in [(first, 2), *((kind, 1) for kind in samples)]:
        feed = take(samples[kind], slice(size))
        inputs = tensors_of(feed, deployable)
        with refusing(feed, size, kind):
            outputs = deployable(*inputs)
        count = len(inputs[0])
        for output, found in zip(signature.outputs, outputs, strict=True):
            sizes = (count, *signature.sizes(output))
            fits = len(sizes) == found.ndim
            if not fits or any(size not in (None, side) for size, side in zip(sizes, found.shape, strict=True)):
                labels = f": the signature has {signature.num_classes} labels" if signature.labels else ""
                raise NotExportable(
                    f"the model gives shape {tuple(found.shape)} as {output.name} for {count} samples, expected {sizes}"
                    f"{labels}. If the model returns several values, --output says which one is meant."
                )
            if found.is_floating_point() and found.dtype.itemsize < 4:
                raise NotExportable(
                    f"the model gives {_name(found.dtype)} as {output.name}, expected {output.dtype}. If `forward` "
                    f"contains an autocast or a cast, remove it, or convert the result (`.float()`)."
                )


@contextmanager
def refusing(feed: Feed, batch_size: int, kind: str) -> Iterator[None]:
    """Refuse a module that does not run on a feed."""
    try:
        yield
    except MODEL_ERRORS as error:
        shapes = " and ".join(str(array.shape[1:]) for array in arrays_of(feed))
        raise NotExportable(
            f"the model does not run on a batch of size {min(batch_size, num_samples(feed))} of {kind} samples "
            f"{shapes}: {reason_of(error)}"
        ) from error


def check_deterministic(deployable: Deployable, some: Feed) -> None:
    """Two runs agree bit for bit, and do not change the model."""
    before = {name: tensor.clone() for name, tensor in deployable.state_dict().items()}
    one, other = run(deployable, some), run(deployable, some)
    changed = [name for name, tensor in deployable.state_dict().items() if _unequal(tensor, before[name])]
    if changed:
        raise NotExportable(
            f"{changed[0]} changes when the model is called in eval mode: an exported model keeps no state between "
            f"calls. Update it only `if self.training`."
        )
    if all(np.array_equal(one[name], other[name], equal_nan=True) for name in one):
        return
    inputs = tensors_of(take(some, slice(8)), deployable)
    culprit = first_difference(trace_operators(deployable, *inputs), trace_operators(deployable, *inputs), _unequal)
    raise NotExportable(
        f"two runs of the model in eval mode differ, first at {culprit}: an operator is random, or the model counts "
        "its calls. A common cause is `F.dropout` without `training=self.training`, which `eval()` does not turn off."
    )


def check_casts(
    casts: Sequence[Cast],
    outputs: Mapping[str, ByOutput],
    without_casts: Mapping[str, ByOutput],
    floors: Mapping[str, Mapping[str, Noise]],
) -> None:
    """The casts to narrower types change the float32 outputs by no more than PyTorch's own error.

    Args:
        casts: The casts of `forward`, in order.
        outputs: Kind -> the float32 outputs.
        without_casts: The same with every cast to a narrower type left out.
        floors: The noise of those.
    """
    for kind, by_output in without_casts.items():
        for name, wide in by_output.items():
            effect = float(np.abs(outputs[kind][name].astype(np.float64) - wide).max())
            noise = floors[kind][name]
            limit = noise.floor if noise.is_measured else ASSERT_CLOSE_ATOL + ASSERT_CLOSE_RTOL * noise.scale
            if not effect <= limit:  # NaN, too
                raise NotExportable(
                    f"{casts[0].place.as_subject()} computes in {casts[0].dtype}, which changes {name} by "
                    f"{effect:.1e} on {kind} samples; PyTorch's own float32 error is {limit:.1e}, and the model is "
                    f"exported in float32. Remove the cast or the autocast from `forward`, or use it only "
                    f"`if self.training`."
                )


def check_finite(module: nn.Module, samples: Mapping[str, Feed], outputs: Mapping[str, ByOutput]) -> None:
    """No output is NaN or infinite."""
    for kind, arrays in outputs.items():
        for name, array in arrays.items():
            wrong = np.asarray(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))
            if wrong.any():
                inputs = tensors_of(take(samples[kind], np.flatnonzero(wrong)[:1]), module)
                culprit = next(
                    op
                    for op in trace_operators(module, *inputs)
                    if any(not torch.isfinite(o).all() for o in op.outputs)
                )
                raise NotExportable(
                    f"{name} is NaN or infinite for {int(wrong.sum())} of {len(wrong)} {kind} samples, first at "
                    f"{culprit}."
                )


def check_batching(double: Deployable, samples: Mapping[str, Feed], reference: Mapping[str, ByOutput]) -> None:
    """Splitting a batch changes float64 outputs by rounding only.

    Args:
        double: The module in float64.
        samples: Kind -> some of its samples.
        reference: Kind -> the float64 outputs of those, and of others behind them, in large batches.
    """
    for kind, feed in samples.items():
        alone = run(double, feed, 1)
        together = {name: reference[kind][name][: len(array)] for name, array in alone.items()}
        apart = {name: np.abs(alone[name] - together[name]).max() for name in alone}
        if all(apart[name] <= ROUNDING_FLOAT64 * np.abs(reference[kind][name]).max() for name in alone):
            continue
        one, pair = (tensors_of(take(feed, slice(size)), double) for size in (1, 2))
        culprit = first_difference(trace_operators(double, *one), trace_operators(double, *pair), _first_row_differs)
        place = f", first at {culprit}" if culprit else ""
        raise NotExportable(
            f"the output for a sample depends on the other samples of its batch{place}. Common causes: batch "
            f"normalisation without running statistics (train with `track_running_stats=True`), or a network so "
            f"chaotic that float64 rounding changes its outputs."
        )


def check_depends_on_input(record: GoldenRecord) -> None:
    """The outputs depend on the input; but softmax may make large logits 0 and 1 for every input."""
    kinds = [kind for kind in record.inputs if kind != CONSTANT]
    first, *_ = record.reference[kinds[0]]
    for name in record.reference[kinds[0]]:
        outputs = np.concatenate([record.reference[kind][name] for kind in kinds])
        floor = max(record.noise[kind][name].floor for kind in kinds)
        is_saturated = name != first and np.minimum(np.abs(outputs), np.abs(outputs - 1)).max() <= floor
        if np.ptp(outputs, axis=0).max() <= floor and not is_saturated:
            raise NotExportable(
                f"{name} is the same for all {len(outputs)} samples: the output does not depend on the input, so no "
                f"comparison is possible. A common cause is a last layer of zeros. Was the model trained?"
            )


def check_conditioning(record: GoldenRecord) -> None:
    """PyTorch's own float32 error is small enough to measure by."""
    for kind, by_output in record.noise.items():
        for name, noise in by_output.items():
            if kind != CONSTANT and noise.is_measured and noise.is_ill_conditioned:
                raise NotExportable(
                    f"PyTorch's own float32 error on {kind} samples is {noise.floor:.1e}, more than 1e-4 of the "
                    f"largest {name} ({noise.scale:.1e}): the model is ill-conditioned, and a correct export could not "
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
