"""Node faults: a node, one of its attributes, or a setting that it reads is changed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping

import onnx
from onnx import TensorProto, helper

from benchmarks.faults.planted import Fault, Planted, StoredTensors, attribute_of, choose, name_of

__all__ = ["NODE_FAULTS"]

NORMS = ("LayerNormalization", "BatchNormalization", "InstanceNormalization", "GroupNormalization")
ACTIVATIONS = ("Relu", "LeakyRelu", "HardSwish", "Gelu", "Tanh", "Softplus")
#: An epsilon that is a number of the graph lies in this range, and is added.
EPSILON = (1e-12, 2e-3)
#: Attribute -> values that an exporter may confuse.
MODES = {
    "coordinate_transformation_mode": ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"),
    "nearest_mode": ("floor", "round_prefer_floor", "round_prefer_ceil", "ceil"),
    "cubic_coeff_a": (-0.75, -0.5),
}
GRID_MODES = {"padding_mode": ("zeros", "border", "reflection"), "align_corners": (0, 1)}
#: Their axis may be another one.
WITH_AXIS = ("Concat", "Gather", "Split", "Softmax")


def remove_an_activation(model: onnx.ModelProto, choice: random.Random) -> Planted | None:
    """Replace an activation by an Identity."""
    node = choose(model, choice, lambda node: node.op_type in ACTIVATIONS)
    if node is None:
        return None
    node.op_type = "Identity"
    del node.attribute[:]
    return Planted(name_of(node))


def replace_an_activation(model: onnx.ModelProto, choice: random.Random) -> Planted | None:
    """Replace an activation by a similar one: Gelu's two forms, HardSwish by Swish, Sigmoid by HardSigmoid."""
    node = choose(model, choice, lambda node: node.op_type in SIMILAR)
    if node is None:
        return None
    planted = Planted(name_of(node))
    SIMILAR[node.op_type](model, node)
    return planted


def swap_an_axis(model: onnx.ModelProto, choice: random.Random) -> Planted | None:
    """Swap two axes of a Transpose, or run a Softmax along the axis before."""
    node = choose(model, choice, lambda node: node.op_type in ("Transpose", "Softmax"))
    if node is None:
        return None
    if node.op_type == "Softmax":
        del node.attribute[:]
        node.attribute.append(helper.make_attribute("axis", -2))
        return Planted(name_of(node))
    permutation = list(node.attribute[0].ints)
    one, other = choice.sample(range(len(permutation)), 2)
    permutation[one], permutation[other] = permutation[other], permutation[one]
    node.attribute[0].ints[:] = permutation
    return Planted(name_of(node))


def change_an_axis(model: onnx.ModelProto, choice: random.Random) -> Planted | None:
    """Move the axis of a Concat, Gather, Split or Softmax by one, or the axes of a mean."""
    stored = {item.name: item for item in model.graph.initializer}

    def has_axes(node: onnx.NodeProto) -> bool:
        return node.op_type == "ReduceMean" and len(node.input) > 1 and node.input[1] in stored

    node = choose(model, choice, lambda node: node.op_type in WITH_AXIS or has_axes(node))
    if node is None:
        return None
    if node.op_type == "ReduceMean":
        axes = onnx.numpy_helper.to_array(stored[node.input[1]]).copy()
        at = choice.randrange(len(axes))
        axes[at] = axes[at] - 1 if axes[at] - 1 not in axes else axes.min() - 1
        name = f"{name_of(node)}_wrong_axes"
        model.graph.initializer.append(onnx.numpy_helper.from_array(axes, name))
        node.input[1] = name
        return Planted(name_of(node))
    axis = attribute_of(node, "axis")
    value = axis.i if axis is not None else (-1 if node.op_type == "Softmax" else 0)
    if axis is not None:
        node.attribute.remove(axis)
    node.attribute.append(helper.make_attribute("axis", value - 1 if value else 1))
    return Planted(name_of(node))


def change_an_epsilon(model: onnx.ModelProto, choice: random.Random) -> Planted | None:
    """Multiply the epsilon of a normalisation by 1000, where it is an attribute or a number that is added."""
    stored = StoredTensors(model)
    added = [
        name
        for name in stored.numbers()
        if EPSILON[0] < float(stored.arrays[name].reshape(-1)[0]) < EPSILON[1]
        and all(node.op_type == "Add" for node in stored.readers(name))
    ]
    nodes = [node for node in model.graph.node if node.op_type in NORMS]
    if not nodes and not added:
        return None
    place = choice.choice([*nodes, *added])
    if isinstance(place, str):
        reader = stored.reader(place)
        assert reader is not None
        # other nodes that read the number keep the right one
        name = f"{place}_wrong"
        array = 1000 * stored.arrays[place]
        model.graph.initializer.append(onnx.numpy_helper.from_array(array.astype("float32"), name))
        reader.input[list(reader.input).index(place)] = name
        return Planted(name_of(reader))
    epsilon = attribute_of(place, "epsilon")
    value = 1e-5 if epsilon is None else epsilon.f
    if epsilon is not None:
        place.attribute.remove(epsilon)
    place.attribute.append(helper.make_attribute("epsilon", 1000 * value))
    return Planted(name_of(place))


def change_a_stride(model: onnx.ModelProto, choice: random.Random) -> Planted | None:
    """Change the strides of a convolution or pooling."""
    node = choose(model, choice, lambda node: attribute_of(node, "strides") is not None)
    if node is None:
        return None
    strides = attribute_of(node, "strides")
    assert strides is not None
    strides.ints[:] = [1 if step > 1 else 2 for step in strides.ints]
    return Planted(name_of(node))


def change_pads(model: onnx.ModelProto, choice: random.Random) -> Planted | None:
    """Move the padding of a convolution or pooling from one side to the other, so that the shape stays."""

    def is_moved(node: onnx.NodeProto) -> bool:
        pads = attribute_of(node, "pads")
        return pads is not None and any(pads.ints)

    node = choose(model, choice, is_moved)
    if node is None:
        return None
    pads = attribute_of(node, "pads")
    assert pads is not None
    rank = len(pads.ints) // 2
    axis = choice.choice([at for at in range(rank) if pads.ints[at] or pads.ints[at + rank]])
    total = pads.ints[axis] + pads.ints[axis + rank]
    pads.ints[axis], pads.ints[axis + rank] = (0, total) if pads.ints[axis] else (total, 0)
    return Planted(name_of(node))


def change_a_dilation(model: onnx.ModelProto, choice: random.Random) -> Planted | None:
    """Change the dilation of a convolution, with its padding, so that the shape stays where it can."""

    def is_wide(node: onnx.NodeProto) -> bool:
        kernel = attribute_of(node, "kernel_shape")
        return node.op_type == "Conv" and kernel is not None and max(kernel.ints) > 1

    node = choose(model, choice, is_wide)
    if node is None:
        return None
    kernel, dilations, pads = (attribute_of(node, name) for name in ("kernel_shape", "dilations", "pads"))
    assert kernel is not None
    old = list(dilations.ints) if dilations is not None else [1] * len(kernel.ints)
    new = [1 if step > 1 else 2 for step in old]
    if dilations is not None:
        node.attribute.remove(dilations)
    node.attribute.append(helper.make_attribute("dilations", new))
    if pads is not None:
        wider = [(n - o) * (k - 1) // 2 for n, o, k in zip(new, old, kernel.ints, strict=True)]
        pads.ints[:] = [max(0, pad + more) for pad, more in zip(pads.ints, wider * 2, strict=True)]
    return Planted(name_of(node))


def change_a_mode(model: onnx.ModelProto, choice: random.Random) -> Planted | None:
    """Change how a Resize or GridSample rounds, or where it places its pixels."""
    node = choose(model, choice, lambda node: node.op_type in ("Resize", "GridSample"))
    if node is None:
        return None
    modes = MODES if node.op_type == "Resize" else GRID_MODES
    name = choice.choice([item.name for item in node.attribute if item.name in modes] or ["align_corners"])
    attribute = attribute_of(node, name)
    now = helper.get_attribute_value(attribute) if attribute is not None else 0
    now = now.decode() if isinstance(now, bytes) else now
    if attribute is not None:
        node.attribute.remove(attribute)
    others = [value for value in modes[name] if value != now and not _is_close(value, now)]
    node.attribute.append(helper.make_attribute(name, choice.choice(others)))
    return Planted(name_of(node))


def change_a_scale(model: onnx.ModelProto, choice: random.Random) -> Planted | None:
    """Multiply a number by 1.1 that a Mul or Div reads, such as the scale of an attention."""
    stored = StoredTensors(model)
    places = [
        (node, at)
        for node in model.graph.node
        if node.op_type in ("Mul", "Div")
        for at, name in enumerate(node.input)
        if name in stored.arrays and stored.arrays[name].size == 1
    ]
    if not places:
        return None
    node, at = choice.choice(places)
    name = f"{name_of(node)}_wrong_scale"
    array = (1.1 * stored.arrays[node.input[at]]).astype("float32")
    model.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    node.input[at] = name
    return Planted(name_of(node))


def multiply_in_place_of_adding(model: onnx.ModelProto, choice: random.Random) -> Planted | None:
    """Multiply in place of adding."""
    node = choose(model, choice, lambda node: node.op_type == "Add")
    if node is None:
        return None
    node.op_type = "Mul"
    return Planted(name_of(node))


def _rename(op_type: str, **attributes: float) -> Callable[[onnx.ModelProto, onnx.NodeProto], None]:
    def rename(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
        node.op_type = op_type
        del node.attribute[:]
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())

    return rename


def _swish(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    """HardSwish -> x * sigmoid(x)."""
    gate = f"{name_of(node)}_gate"
    _insert_before(model, node, [helper.make_node("Sigmoid", [node.input[0]], [gate], gate)])
    node.op_type = "Mul"
    node.input.append(gate)


def _tanh_for_erf(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    """erf(u) -> tanh(2/sqrt(pi) * (u + 0.08943 u^3)): Gelu's approximation."""
    name, source = name_of(node), node.input[0]
    numbers = {"cubic": 0.08943, "one": 1.0, "scale": 2 / math.sqrt(math.pi)}
    model.graph.initializer.extend(
        helper.make_tensor(f"{name}_{key}", TensorProto.FLOAT, (), [value]) for key, value in numbers.items()
    )
    steps = [
        ("Mul", (source, source), "square"),
        ("Mul", (f"{name}_square", f"{name}_cubic"), "term"),
        ("Add", (f"{name}_term", f"{name}_one"), "factor"),
        ("Mul", (source, f"{name}_factor"), "sum"),
        ("Mul", (f"{name}_sum", f"{name}_scale"), "argument"),
    ]
    nodes = [helper.make_node(kind, taken, [f"{name}_{given}"], f"{name}_{given}") for kind, taken, given in steps]
    _insert_before(model, node, nodes)
    node.op_type = "Tanh"
    node.input[0] = f"{name}_argument"


def _other_gelu(model: onnx.ModelProto, node: onnx.NodeProto) -> None:
    form = attribute_of(node, "approximate")
    other = "none" if form is not None and form.s == b"tanh" else "tanh"
    del node.attribute[:]
    node.attribute.append(helper.make_attribute("approximate", other))


def _insert_before(model: onnx.ModelProto, node: onnx.NodeProto, nodes: list[onnx.NodeProto]) -> None:
    at = next(at for at, item in enumerate(model.graph.node) if item.output[0] == node.output[0])
    for item in reversed(nodes):
        model.graph.node.insert(at, item)


def _is_close(one: object, other: object) -> bool:
    """float32's -0.75 is this one; half_pixel and pytorch_half_pixel differ only for outputs of one pixel."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6)
    return {one, other} == {"half_pixel", "pytorch_half_pixel"}


SIMILAR: Mapping[str, Callable[[onnx.ModelProto, onnx.NodeProto], None]] = {
    "Gelu": _other_gelu,
    "Erf": _tanh_for_erf,
    "HardSwish": _swish,
    "Relu": _rename("LeakyRelu", alpha=0.01),
    "LeakyRelu": _rename("LeakyRelu", alpha=0.02),
    "Sigmoid": _rename("HardSigmoid"),
    "HardSigmoid": _rename("Sigmoid"),
    "Tanh": _rename("Softsign"),
    "Softplus": _rename("Relu"),
}

NODE_FAULTS: Mapping[str, Fault] = {
    "an activation removed": remove_an_activation,
    "a similar activation": replace_an_activation,
    "an axis swapped": swap_an_axis,
    "a wrong axis": change_an_axis,
    "an epsilon changed": change_an_epsilon,
    "a stride changed": change_a_stride,
    "wrong pads": change_pads,
    "a wrong dilation": change_a_dilation,
    "another mode of Resize or GridSample": change_a_mode,
    "a scale changed": change_a_scale,
    "Mul for Add": multiply_in_place_of_adding,
}
