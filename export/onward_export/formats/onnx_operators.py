"""ONNX operators: translations for calls that torch.onnx refuses or translates wrongly. All others are torch.onnx's.

- Attention on queries of other ranks than 4: torch.onnx refuses it.
- Pooling with a ceiled size: ONNX's checker counts a window that begins in the padding, PyTorch leaves it out.
- Average pooling with a divisor: torch.onnx drops the divisor.
- Interpolation by a factor: ONNX rounds the size down in float32, PyTorch in float64.

`mended_exporter` is for PyTorch 2.6.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from numpy.typing import NDArray
from onnxscript import opset18 as op
from onnxscript.function_libs.torch_lib.ops import nn
from torch._dispatch.python import enable_python_dispatcher
from torch.nn import functional as F
from torch.onnx._internal.exporter import _building

__all__ = ["mended_exporter", "translations"]

aten = torch.ops.aten


def attention(
    query: Any, key: Any, value: Any, attn_mask: Any, is_causal: bool, scale: float | None, enable_gqa: bool, **_: Any
) -> Any:
    """Attention `(…, queries, channels)`, `(…, keys, channels)` -> `(…, queries, channels)`; None for rank 4.

    Source: PyTorch, `_scaled_dot_product_attention_math`.
    """
    rank = len(key.shape)
    if {len(query.shape), rank, len(value.shape)} == {4} or enable_gqa:
        return None
    factor = _constant(np.float32(math.sqrt(scale if scale is not None else 1 / math.sqrt(query.shape[-1]))))
    transposed = op.Transpose(key, perm=[*range(rank - 2), rank - 1, rank - 2])
    scores = op.MatMul(op.Mul(query, factor), op.Mul(transposed, factor))
    zero, low = _constant(np.float32(0)), _constant(np.float32(-np.inf))
    is_boolean = is_causal or (attn_mask is not None and attn_mask.dtype == ir.DataType.BOOL)
    if is_causal:
        sizes = op.Concat(op.Shape(query, start=-2, end=-1), op.Shape(key, start=-2, end=-1), axis=0)
        attn_mask = op.Cast(op.Trilu(op.Expand(_constant(np.int64(1)), sizes), upper=0), to=ir.DataType.BOOL)
    if attn_mask is not None:
        scores = op.Add(scores, op.Where(attn_mask, zero, low) if is_boolean else attn_mask)
    shares = op.Softmax(scores, axis=-1)
    # a query that may attend to no key gives zeros
    return op.MatMul(op.Where(op.IsNaN(shares), zero, shares) if is_boolean else shares, value)


def average_pool(
    self: Any,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None = None,
) -> Any:
    """Average pooling with a ceiled size or a divisor; None for others, and for free sizes."""
    windows = _windows(self, kernel_size, stride, padding, (1,), ceil_mode)
    if windows is None or not (ceil_mode or divisor_override):
        return None
    divisor = functools.reduce(np.multiply.outer, (item.counts(count_include_pad) for item in windows))
    if divisor_override:
        divisor = np.full_like(divisor, divisor_override)
    factor = np.float32(math.prod(item.kernel for item in windows) / divisor)
    means = op.AveragePool(
        op.Pad(self, _constant(_pads(windows))),
        kernel_shape=[item.kernel for item in windows],
        strides=[item.stride for item in windows],
    )
    return means if (factor == 1).all() else op.Mul(means, _constant(factor))


def max_pool(
    self: Any,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> Any:
    """Maximum pooling with a ceiled size; None for others, and for free sizes."""
    windows = _windows(self, kernel_size, stride, padding, dilation, ceil_mode)
    if windows is None or not ceil_mode:
        return None
    largest, _ = op.MaxPool(
        op.Pad(self, _constant(_pads(windows)), _constant(np.float32(-np.inf))),
        kernel_shape=[item.kernel for item in windows],
        strides=[item.stride for item in windows],
        dilations=[item.dilation for item in windows],
    )
    return largest


def resize(
    mode: str, self: Any, output_size: Any, scale_factors: Sequence[float] | None, align_corners: bool | None = None
) -> Any:
    """Interpolation by factors where ONNX rounds the size to another one than PyTorch; None elsewhere.

    Nearest gathers; other modes are a product with a matrix for each axis.
    """
    lengths = list(self.shape)[2:]
    if scale_factors is None or not all(isinstance(length, int) for length in lengths):
        return None
    pairs = list(zip(lengths, scale_factors, strict=True))
    if not any(_is_rounded_down(length, factor) for length, factor in pairs):
        return None
    result = self
    for axis, (length, factor) in enumerate(pairs, 2):
        weights = _interpolation(mode, length, factor, align_corners)
        if mode == "nearest":
            result = op.Gather(result, _constant(weights.argmax(0)), axis=axis)
        elif axis == len(self.shape) - 1:
            result = op.MatMul(result, _constant(weights.astype(np.float32)))
        else:
            swapped = list(range(len(self.shape)))
            swapped[axis], swapped[-1] = swapped[-1], swapped[axis]
            product = op.MatMul(op.Transpose(result, perm=swapped), _constant(weights.astype(np.float32)))
            result = op.Transpose(product, perm=swapped)
    return result


class Window:
    """The windows of a pooling along one axis, sized and placed as PyTorch does it.

    Args:
        length: The input's size.
        kernel: The size of a window.
        stride: The distance between windows.
        padding: At either end.
        dilation: The distance between elements of a window.
        ceil_mode: Whether a window may reach beyond the padding, if it does not begin there.
    """

    def __init__(self, length: int, kernel: int, stride: int, padding: int, dilation: int, ceil_mode: bool) -> None:
        self.length, self.kernel, self.stride, self.padding = length, kernel, stride, padding
        self.reach = dilation * (kernel - 1) + 1
        self.dilation = dilation
        room = length + 2 * padding - self.reach
        self.size = (-(-room // stride) if ceil_mode else room // stride) + 1
        if ceil_mode and (self.size - 1) * stride >= length + padding:
            self.size -= 1

    @property
    def end(self) -> int:
        """What must be added to the end of the input, or taken from it where this is negative."""
        return (self.size - 1) * self.stride + self.reach - self.length - self.padding

    def counts(self, with_padding: bool) -> NDArray[np.int64]:
        """How many elements each window has, with those of the padding or without."""
        start = np.arange(self.size) * self.stride - self.padding
        end = np.minimum(start + self.kernel, self.length + self.padding)
        if with_padding:
            return end - start
        return np.minimum(end, self.length) - np.maximum(start, 0)


def translations() -> Mapping[Callable[..., Any], Callable[..., Any]]:
    """The table of `torch.onnx.export(custom_translation_table=…)`: operator of PyTorch -> what writes it."""
    table: dict[Callable[..., Any], Callable[..., Any]] = {
        aten.scaled_dot_product_attention.default: _instead(nn.aten_scaled_dot_product_attention, attention)
    }
    for rank in (1, 2, 3):
        for kind, translate in (("avg", average_pool), ("max", max_pool)):
            theirs = getattr(nn, f"aten_{kind}_pool{rank}d")
            table[getattr(aten, f"{kind}_pool{rank}d").default] = _instead(theirs, translate)
        nearest = functools.partial(resize, "nearest")
        table[getattr(aten, f"upsample_nearest{rank}d").vec] = _instead(nn.aten_upsample_nearestnd_vec, nearest)
    for name, mode in (("bilinear2d", "bilinear"), ("bicubic2d", "bicubic"), ("trilinear3d", "bilinear")):
        theirs = getattr(nn, f"aten_upsample_{name}_vec")
        table[getattr(aten, f"upsample_{name}").vec] = _instead(theirs, functools.partial(resize, mode))
    return table


@contextmanager
def mended_exporter() -> Iterator[None]:
    """Mend the exporter of PyTorch 2.6: newer ones do the same themselves.

    Batch norm has one output, and Split as many as it is called for. Operators that consist of others are taken apart
    in Python: in C++ they end the process or fail where the batch is free.

    Source: PyTorch 2.7, torch.onnx._internal, `exporter._building._determine_output_number` and
    `fx.passes.type_promotion.InsertTypePromotion._run`.
    """
    if hasattr(_building, "_determine_output_number"):
        yield
        return
    construct = _building._construct_node

    def construct_node(signature: Any, inputs: Any, attributes: Mapping[str, Any], opset: Any) -> Any:
        outputs = signature.outputs
        if signature.domain == "" and signature.name == "BatchNormalization" and not attributes.get("training_mode"):
            outputs = outputs[:1]
        if signature.domain == "" and signature.name == "Split":
            outputs = list(outputs) * attributes["num_outputs"]
        return construct(replace(signature, outputs=outputs), inputs, attributes, opset)  # type: ignore[call-arg]

    _building._construct_node = construct_node  # type: ignore[assignment]
    try:
        with enable_python_dispatcher():
            yield
    finally:
        _building._construct_node = construct


def _instead(theirs: Any, ours: Callable[..., Any]) -> Callable[..., Any]:
    """A translation with the signature of torch.onnx's, which is used where ours gives None."""
    signature = inspect.signature(theirs.func)

    @functools.wraps(theirs.func)
    def translate(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        arguments = {"self" if name == "input" else name: value for name, value in bound.arguments.items()}
        result = ours(**arguments)
        return theirs(*args, **kwargs) if result is None else result

    if "output_size" in signature.parameters:
        translate.__signature__ = _of_interpolation(signature)  # type: ignore[attr-defined]
    return translate


def _of_interpolation(signature: inspect.Signature) -> inspect.Signature:
    """A translation's signature with `input` for its first parameter, as PyTorch calls it, and an optional size.

    PyTorch 2.9 and older compare the two, and find no translation for an interpolation by a factor.
    """
    first, size, *others = signature.parameters.values()
    return signature.replace(
        parameters=[
            first.replace(name="input"),
            size.replace(default=None),
            *(item.replace(kind=inspect.Parameter.KEYWORD_ONLY) for item in others),
        ]
    )


def _windows(
    self: Any,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
) -> list[Window] | None:
    """The windows along each axis; None where a size is free."""
    lengths = list(self.shape)[2:]
    if not all(isinstance(length, int) for length in lengths):
        return None
    columns = [_each(values, len(lengths)) for values in (kernel_size, stride or kernel_size, padding, dilation)]
    return [
        Window(length, kernel, step, pad, gap, ceil_mode)
        for length, kernel, step, pad, gap in zip(lengths, *columns, strict=True)
    ]


def _each(values: Sequence[int] | int, rank: int) -> list[int]:
    given = [values] if isinstance(values, int) else list(values)
    return given * rank if len(given) == 1 else given


def _pads(windows: Sequence[Window]) -> NDArray[np.int64]:
    return np.array([0, 0, *(item.padding for item in windows), 0, 0, *(item.end for item in windows)], np.int64)


def _is_rounded_down(length: int, factor: float) -> bool:
    """Whether a reader of ONNX may get another size than PyTorch: it has the factor in float32."""
    stored = np.float32(factor)
    return not int(np.float32(length) * stored) == int(length * float(stored)) == int(length * factor)


def _interpolation(mode: str, length: int, factor: float, align_corners: bool | None) -> NDArray[Any]:
    """What PyTorch multiplies along one axis, `(length, new length)`: its interpolation of unit vectors.

    Nearest is computed in float32, as the file is, because it rounds positions; other modes in float64.
    """
    units = torch.eye(length, dtype=torch.float32 if mode == "nearest" else torch.float64)[None, :, :, None]
    with torch.no_grad():
        return F.interpolate(units, scale_factor=(factor, 1.0), mode=mode, align_corners=align_corners)[
            0, ..., 0
        ].numpy()


def _constant(array: Any) -> Any:
    return op.Constant(value=ir.tensor(np.asarray(array)))  # type: ignore[arg-type]
