"""Weight faults: a stored value is changed."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.faults.planted import Fault, Planted, StoredTensors, attribute_of

__all__ = ["WEIGHT_FAULTS"]

Array = NDArray[np.float32]
#: Layers whose second input is a weight and whose third is a bias.
LAYERS = ("Conv", "ConvTranspose", "Gemm")
RECURRENT = {"LSTM": 4, "GRU": 3, "RNN": 1}
#: A unit with a bias below this never fires.
NEVER = -1e3


def nudge_a_weight(model: onnx.ModelProto, choice: random.Random) -> Planted | None:
    """Change one number of a weight or bias by a tenth of the tensor's standard deviation."""

    def nudge(array: Array) -> Array:
        spread = float(array.std()) or float(np.abs(array).max()) or 1.0
        array.reshape(-1)[choice.randrange(array.size)] += 0.1 * spread
        return array

    return _change_one(model, choice, lambda array: True, nudge)


def add_one_ulp(model: onnx.ModelProto, choice: random.Random) -> Planted | None:
    """Change one number of a weight or bias by one unit in the last place."""

    def add(array: Array) -> Array:
        flat, at = array.reshape(-1), choice.randrange(array.size)
        flat[at] = np.nextafter(flat[at], np.float32(np.inf))
        return array

    return _change_one(model, choice, lambda array: True, add)


def round_to_float16(model: onnx.ModelProto, choice: random.Random) -> Planted | None:
    """Round all numbers of a stored value to float16."""
    return _change_one(
        model,
        choice,
        lambda array: not np.array_equal(_float16(array), array) and bool(np.isfinite(_float16(array)).all()),
        _float16,
    )


def transpose_a_square(model: onnx.ModelProto, choice: random.Random) -> Planted | None:
    """Transpose a weight whose last two sides, or first two, are equal."""
    return _change_one(
        model,
        choice,
        lambda array: array.ndim >= 2 and (array.shape[-1] == array.shape[-2] > 1 or array.shape[0] == array.shape[1]),
        lambda array: np.swapaxes(array, 0, 1) if array.shape[0] == array.shape[1] else np.swapaxes(array, -1, -2),
    )


def exchange_two(model: onnx.ModelProto, choice: random.Random) -> Planted | None:
    """Exchange two stored values of one shape."""
    stored = StoredTensors(model)
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for name in stored.weights():
        by_shape.setdefault(stored.arrays[name].shape, []).append(name)
    pairs = [names for names in by_shape.values() if len(names) > 1]
    if not pairs:
        return None
    order = {name: at for at, name in enumerate(_in_order(model))}
    one, other = sorted(choice.sample(choice.choice(pairs), 2), key=order.__getitem__)
    if stored.change(other, stored.arrays[one]) is None:
        return None
    return stored.change(one, stored.arrays[other], (other,))


def zero_a_bias(model: onnx.ModelProto, choice: random.Random) -> Planted | None:
    """Set a bias to zeros."""
    return _change_bias(model, choice, np.zeros_like)


def join_a_bias_twice(model: onnx.ModelProto, choice: random.Random) -> Planted | None:
    """Add a bias twice; of a recurrent layer, add the recurrent bias to the other and leave it in its place."""
    stored = StoredTensors(model)
    recurrent = [node for node in model.graph.node if node.op_type in RECURRENT and node.input[3] in stored.arrays]
    if not recurrent:
        return _change_bias(model, choice, lambda array: 2 * array)
    name = choice.choice(recurrent).input[3]
    array = stored.arrays[name].copy()  # (directions, 2 * gates * hidden)
    half = array.shape[1] // 2
    direction = choice.randrange(len(array))
    array[direction, :half] += array[direction, half:]
    return stored.change(name, array)


def swap_gates(model: onnx.ModelProto, choice: random.Random) -> Planted | None:
    """Swap two gates of a recurrent layer, in one of its weights or its bias."""
    stored = StoredTensors(model)
    nodes = [node for node in model.graph.node if RECURRENT.get(node.op_type, 0) > 1]
    places = [(node, name) for node in nodes for name in node.input[1:4] if name in stored.arrays]
    if not places:
        return None
    node, name = choice.choice(places)
    array = stored.arrays[name].copy()
    gates = RECURRENT[node.op_type]
    hidden_size = attribute_of(node, "hidden_size")
    assert hidden_size is not None
    one, other = (slice(at * hidden_size.i, (at + 1) * hidden_size.i) for at in choice.sample(range(gates), 2))
    direction = choice.randrange(len(array))
    array[direction, [*_range(one), *_range(other)]] = array[direction, [*_range(other), *_range(one)]]
    return stored.change(name, array)


def change_behind_a_dead_unit(model: onnx.ModelProto, choice: random.Random) -> Planted | None:
    """Change a weight that a unit which never fires is multiplied with."""
    stored = StoredTensors(model)
    places = []
    for node in model.graph.node:
        bias = stored.arrays.get(node.input[2]) if node.op_type in LAYERS and len(node.input) > 2 else None
        if bias is None or bias.min() > NEVER:
            continue
        for reader in _layers_after(model, node.output[0]):
            if reader.op_type in ("Conv", "Gemm") and reader.input[1] in stored.arrays:
                places += [(reader, int(unit)) for unit in np.flatnonzero(bias < NEVER)]
    if not places:
        return None
    reader, unit = choice.choice(places)
    array = stored.arrays[reader.input[1]].copy()
    transposed = attribute_of(reader, "transB")
    is_first = reader.op_type == "Gemm" and not (transposed is not None and transposed.i)
    at = choice.randrange(array.shape[1] if is_first else array.shape[0])
    if is_first:
        array[unit, at] += 1.0
    else:
        array[at, unit] += 1.0
    return stored.change(reader.input[1], array)


WEIGHT_FAULTS: Mapping[str, Fault] = {
    "a weight nudged": nudge_a_weight,
    "one ulp in one weight": add_one_ulp,
    "a constant rounded to float16": round_to_float16,
    "a square weight transposed": transpose_a_square,
    "two weights exchanged": exchange_two,
    "a bias set to zero": zero_a_bias,
    "a bias joined twice": join_a_bias_twice,
    "gates swapped": swap_gates,
    "a weight behind a dead unit": change_behind_a_dead_unit,
}


def _change_one(
    model: onnx.ModelProto, choice: random.Random, fits: Callable[[Array], bool], change: Callable[[Array], Array]
) -> Planted | None:
    stored = StoredTensors(model)
    names = [name for name in stored.weights() if fits(stored.arrays[name])]
    if not names:
        return None
    name = choice.choice(names)
    return stored.change(name, change(stored.arrays[name].copy()))


def _change_bias(model: onnx.ModelProto, choice: random.Random, change: Callable[[Array], Array]) -> Planted | None:
    stored = StoredTensors(model)
    layers = [node for node in model.graph.node if node.op_type in LAYERS and len(node.input) > 2]
    biases = [node.input[2] for node in layers if node.input[2] in stored.arrays and stored.arrays[node.input[2]].any()]
    if not biases:
        return None
    name = choice.choice(biases)
    return stored.change(name, change(stored.arrays[name].copy()))


def _layers_after(model: onnx.ModelProto, name: str) -> list[onnx.NodeProto]:
    """The layers that read a value, behind an activation and a pooling."""
    found: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if name in node.input[:1]:
            through = node.op_type in ("Relu", "MaxPool")
            found += _layers_after(model, node.output[0]) if through else [node]
    return found


def _in_order(model: onnx.ModelProto) -> list[str]:
    return list(dict.fromkeys(name for node in model.graph.node for name in node.input))


def _float16(array: Array) -> Array:
    with np.errstate(over="ignore"):
        rounded: Array = array.astype(np.float16).astype(np.float32)
    return rounded


def _range(part: slice) -> range:
    return range(part.start, part.stop)
