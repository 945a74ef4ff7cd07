"""The program of a .pt2 file, model.json: what `torch.export.load` would call, import, evaluate or compile of it.

Every key is known: what is not in `CHECKS` or `PLAIN` is refused.

Source: PyTorch 2.15, torch/_export/serde/schema.py.
"""

from __future__ import annotations

import json
import keyword
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from onward.bundle.pt2_expressions import SYMBOL, WHAT, check_expression, check_guards
from onward.bundle.torch_archive import refuse
from onward.bundle.torch_operators import is_allowed

__all__ = ["check_path", "check_program"]

OPERATOR = re.compile(r"torch\.ops\.(aten|torchvision|higher_order)\.(\w+)(?:\.(\w+))?")
#: Python's functions on sizes.
SIZE_FUNCTIONS = re.compile(
    r"_operator\.(add|sub|mul|floordiv|truediv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_)|math\.(ceil|floor|trunc)"
    r"|torch\.(sym_int|sym_float|sym_ite|sym_max|sym_min|sym_not|_sym_sqrt)"
)
#: The ends of `torch.vmap`, which wrap tensors and take the wrapping off.
VMAP = re.compile(
    r"torch\._functorch\.predispatch\."
    r"(_add_batch_dim|_remove_batch_dim|_vmap_increment_nesting|_vmap_decrement_nesting|lazy_load_decompositions)"
)
TREE_TYPES = (None, "builtins.tuple", "builtins.list", "builtins.dict")
NODE_METADATA = frozenset(("nn_module_stack", "torch_fn"))
VERIFIERS = ("TRAINING", "ATEN")

#: Keys with nothing to check beside what lies below them.
PLAIN = frozenset(
    re.findall(
        r"\S+",
        """
    graph_module graph signature opset_version schema_version major minor torch_version
    inputs outputs nodes arg kind is_hop_single_tensor_return is_single_tensor_return input_specs output_specs
    user_input parameter buffer tensor_constant constant_input token persistent value
    user_output loss_output buffer_mutation gradient_to_parameter gradient_to_user_input user_input_mutation
    parameter_mutation module_call_graph dtype sizes requires_grad device strides storage_offset layout type index hint
    as_none as_tensor as_tensors as_int as_ints as_float as_floats as_string as_strings as_sym_int as_sym_ints
    as_scalar_type as_memory_format as_layout as_device as_bool as_bools as_sym_bool as_sym_bools as_graph
    as_optional_tensors as_sym_float as_sym_floats as_optional_tensor as_complex as_nested_tensors as_int_lists
    as_float_lists as_expr real imag min_val max_val
    """,
    )
)


def check_program(document: Mapping[str, Any]) -> None:
    """Check the program.

    Raises:
        BundleError: It says what no program of Onward's says.
        KeyError, TypeError, ValueError: It is damaged.
    """
    _check(document)


def _check(value: Any) -> None:
    """Check a part of the program, and everything below it."""
    if isinstance(value, dict):
        for key, item in value.items():
            if check := CHECKS.get(key):
                check(item)
            elif key in PLAIN:
                _check(item)
            else:
                refuse(WHAT, f"its program has {key!r}, which Onward does not know")
    elif isinstance(value, list):
        for item in value:
            _check(item)


def _check_named(values: Mapping[str, Any]) -> None:
    """Check a table whose keys are names of values."""
    for name, value in values.items():
        _check_identifier(name)
        _check(value)


def _check_identifier(name: Any) -> None:
    # names become names in the Python code of the graph
    if name not in (None, "") and not (isinstance(name, str) and name.isidentifier()):
        refuse(WHAT, f"a name in its program is {str(name)[:40]!r}")


def _check_identifiers(names: Sequence[Any] | None) -> None:
    for name in names or ():
        _check_identifier(name)
        if keyword.iskeyword(name or ""):
            refuse(WHAT, f"a name in its program is {name!r}")


def check_path(path: Any) -> None:
    """Check the name of a tensor in the network: `model.layers.0.weight`."""
    # paths of weights become attribute names in that code, quoted where they are no identifiers
    if not isinstance(path, str) or not path.isprintable() or set(path) & set("\"'\\{}"):
        refuse(WHAT, f"a tensor in its program is named {str(path)[:40]!r}")


def _check_target(target: Any) -> None:
    if not isinstance(target, str):
        raise TypeError("the target of a node is no text")
    if SIZE_FUNCTIONS.fullmatch(target) or VMAP.fullmatch(target):
        return
    found = OPERATOR.fullmatch(target)
    if not found or not is_allowed(found[1], found[2]) or not _is_overload(found[1], found[3]):
        refuse(WHAT, f"its program calls {target[:80]}")


def _is_overload(namespace: str, overload: str | None) -> bool:
    if namespace == "higher_order":
        return overload is None
    return overload is not None and not overload.startswith("_") and overload not in ("op", "overloads")


def _check_tree(text: Any) -> None:
    """How inputs and outputs nest. A specification can name a module to import, or keys that become code."""
    version, root = json.loads(text)
    waiting = [root]
    if version != 1:
        refuse(WHAT, f"the structure of its inputs has version {version!r}, expected 1")
    while waiting:
        node = waiting.pop()
        if set(node) != {"type", "context", "children_spec"}:
            refuse(WHAT, f"the structure of its inputs has {sorted(node)}")
        if node["type"] not in TREE_TYPES or node["context"] not in (None, "null", "[]"):
            refuse(WHAT, f"its inputs or outputs are a {node['type']} of {str(node['context'])[:80]}")
        waiting += node["children_spec"]


def _check_metadata(metadata: Mapping[str, Any]) -> None:
    for key, value in metadata.items():
        if key not in NODE_METADATA or not isinstance(value, str):
            refuse(WHAT, f"its program has {key!r} in the notes of a node")


def _check_ranges(ranges: Mapping[str, Any]) -> None:
    for name, value in ranges.items():
        if not SYMBOL.fullmatch(name):
            refuse(WHAT, f"a size in its program is named {name[:40]!r}")
        _check(value)


def _check_versions(versions: Mapping[str, Any]) -> None:
    if not all(isinstance(version, int) for version in versions.values()):
        refuse(WHAT, f"its operators are of the versions {versions}")


def _check_empty(value: Any) -> None:
    if value:
        refuse(WHAT, "its program has objects that are no tensors")


def _check_verifiers(names: Sequence[Any]) -> None:
    if any(name not in VERIFIERS for name in names):
        refuse(WHAT, f"its program is of the kind {names!r}, expected {' or '.join(VERIFIERS)}")


CHECKS: Mapping[str, Callable[[Any], None]] = {
    "target": _check_target,
    "as_operator": _check_target,
    "expr_str": check_expression,
    "guards_code": check_guards,
    "in_spec": _check_tree,
    "out_spec": _check_tree,
    "forward_arg_names": _check_identifiers,
    "metadata": _check_metadata,
    "name": _check_identifier,
    "as_name": _check_identifier,
    "user_input_name": _check_identifier,
    "parameter_name": check_path,
    "buffer_name": check_path,
    "tensor_constant_name": check_path,
    "fqn": check_path,
    "range_constraints": _check_ranges,
    "opset_version": _check_versions,
    "verifiers": _check_verifiers,
    "treespec_namedtuple_fields": _check_empty,
    "custom_obj_values": _check_empty,
    **dict.fromkeys(("tensor_values", "sym_int_values", "sym_bool_values", "sym_float_values"), _check_named),
}
