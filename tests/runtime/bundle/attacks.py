"""Files that do harm, made of a good bundle's: each does its deed where a library opens it without Onward.

A deed is harmless: a file `deed` appears in the working directory, or a secret is read.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable
from typing import Any

import pytest

__all__ = ["PICKLE", "PT2", "TORCHSCRIPT", "Members"]

#: Name in the archive, without the top folder -> content.
Members = dict[str, bytes]
DEED = "open('deed', 'w').close()"


class _Deed:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return exec, (DEED,)


#: Does the deed when it is unpickled.
PICKLE = pickle.dumps(_Deed())


def read(data: bytes) -> Members:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def written(members: Members) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, content in members.items():
            archive.writestr(f"model/{name}", content)
    return data.getvalue()


def pickled_file() -> bytes:
    """As `torch.save` writes it, so that `torch.load` takes it for one of its own."""
    torch = pytest.importorskip("torch", reason="planting it needs PyTorch")

    data = io.BytesIO()
    torch.save({"": _Deed()}, data)
    return data.getvalue()


# .pt2

MODEL, CONSTANTS = "models/model.json", "data/constants/model_constants_config.json"
WEIGHTS = "data/weights/model_weights_config.json"


def _document(members: Members, change: Callable[[Any], object], name: str = MODEL) -> None:
    document = json.loads(members[name])
    change(document)
    members[name] = json.dumps(document).encode()


def _graph(document: Any) -> Any:
    return document["graph_module"]["graph"]


def sample_inputs(members: Members) -> None:
    members["data/sample_inputs/model.pt"] = pickled_file()


def pickled_weight(members: Members) -> None:
    def change(document: Any) -> None:
        next(iter(document["config"].values())).update(use_pickle=True, tensor_meta=None, path_name="weight_pickled")

    _document(members, change, WEIGHTS)
    members["data/weights/weight_pickled"] = pickled_file()


def opaque_object(members: Members) -> None:
    entry = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
    _document(members, lambda document: document["config"].update(thing=entry), CONSTANTS)
    members["data/constants/opaque_obj_0"] = PICKLE


def legacy_weights(members: Members) -> None:
    members["data/weights/model.pt"] = pickled_file()


def legacy_constants(members: Members) -> None:
    members["data/constants/model.pt"] = pickled_file()


def expression(members: Members) -> None:
    """Sizes are given to sympy, which evaluates them."""

    def change(document: Any) -> None:
        sizes = _graph(document)["tensor_values"].values()
        (next(size for value in sizes for size in value["sizes"] if "as_expr" in size))["as_expr"]["expr_str"] = (
            f"""__import__("builtins").exec("{DEED}")"""
        )

    _document(members, change)


def guard(members: Members) -> None:
    """Conditions on the inputs are compiled as Python, where there are sample inputs."""
    torch = pytest.importorskip("torch", reason="planting it needs PyTorch")

    code = f"exec(bytes({list(DEED.encode())})) is None"  # without quotes, for the text of the error has it, too
    _document(members, lambda document: document.update(guards_code=[code]))
    data = io.BytesIO()
    torch.save(((torch.zeros(2, 8, 8, 1, dtype=torch.uint8),), {}), data)
    members["data/sample_inputs/model.pt"] = data.getvalue()


def name_as_code(members: Members) -> None:
    """Names of inputs become those of a Python function."""
    name = _graph(json.loads(members[MODEL]))["inputs"][-1]["as_tensor"]["name"]
    code = json.dumps(f"{name} = {DEED}")
    members[MODEL] = re.sub(rf'"{name}"', lambda found: code, members[MODEL].decode()).encode()


def module_to_import(members: Members) -> None:
    """The structure of the inputs may hold an enumeration of any module, which is imported."""

    def change(document: Any) -> None:
        call = document["graph_module"]["module_call_graph"][0]["signature"]
        version, tree = json.loads(call["in_spec"])
        tree["children_spec"][1]["context"] = json.dumps([{"__enum__": True, "fqn": "doer:Deed", "name": "DONE"}])
        call["in_spec"] = json.dumps([version, tree])

    _document(members, change)


def write_a_file(members: Members) -> None:
    """`aten::from_file` maps a file; `shared` creates it."""

    def change(document: Any) -> None:
        inputs = [("filename", {"as_string": "deed"}), ("shared", {"as_bool": True}), ("size", {"as_int": 24})]
        _insert(document, "torch.ops.aten.from_file.default", inputs, {"as_tensor": {"name": "deed"}})
        values = _graph(document)["tensor_values"]
        values["deed"] = next(iter(values.values()))

    _document(members, change)


def _insert(document: Any, target: str, inputs: list[tuple[str, Any]], output: Any) -> None:
    """Put a node before the others."""
    node = {
        "target": target,
        "inputs": [{"name": name, "arg": arg, "kind": 1} for name, arg in inputs],
        "outputs": [output],
        "metadata": {},
        "is_hop_single_tensor_return": None,
        "name": "deed",
    }
    _graph(document)["nodes"].insert(0, node)


#: Attack -> what it changes.
PT2: dict[str, Callable[[Members], None]] = {
    function.__name__: function
    for function in (
        sample_inputs,
        pickled_weight,
        opaque_object,
        legacy_weights,
        legacy_constants,
        expression,
        guard,
        name_as_code,
        module_to_import,
        write_a_file,
    )
}


# TorchScript

FILE = 'from_file("deed", True, 24, dtype=0)'
USE = "image = torch.add(image, torch.sum(deed))"  # what is not used is left out


def _code(members: Members, *statements: str) -> None:
    """Put statements first in the outermost module's `forward`."""
    name = _outermost(members)
    head, returns, body = re.split(r"(-> [^\n]*:\n)", members[name].decode(), maxsplit=1)
    added = "".join(f"    {line}\n" for line in statements)
    members[name] = f"{head}{returns}{added}{body}".encode()


def _outermost(members: Members) -> str:
    return next(name for name in members if name.startswith("code/") and b"class Deployable" in members[name])


def save_a_file(members: Members) -> None:
    _code(members, 'torch.save(1, "deed")')


def map_a_file(members: Members) -> None:
    _code(members, f"deed = torch.{FILE}", USE)


def operator_by_its_namespace(members: Members) -> None:
    _code(members, f"deed = ops.aten.{FILE}", USE)


def namespace_under_another_name(members: Members) -> None:
    _code(members, "x = ops.aten", f"deed = x.{FILE}", USE)


def function_under_another_name(members: Members) -> None:
    _code(members, "x = torch.save", 'x(1, "deed")')


def attribute_by_its_text(members: Members) -> None:
    _code(members, 'x = getattr(torch, "save")', 'x(1, "deed")')


def in_another_thread(members: Members) -> None:
    members[_outermost(members)] += b'def deed(image: Tensor) -> int:\n  torch.save(1, "deed")\n  return 1\n'
    module = _outermost(members).removeprefix("code/").removesuffix(".py").replace("/", ".")
    _code(members, f"x = fork({module}.deed, image)", "image = torch.add(image, torch.wait(x))")


def while_it_loads(members: Members) -> None:
    """A class with `__setstate__` runs it before the file is open."""
    name = _outermost(members)
    module = name.removeprefix("code/").removesuffix(".py").replace("/", ".")
    members[name] += (
        f"  def __setstate__(self: {module}.Deployable, state: bool) -> NoneType:\n"
        f'    torch.save(1, "deed")\n    self.training = state\n    return None\n'
        f"  def __getstate__(self: {module}.Deployable) -> bool:\n    return True\n"
    ).encode()
    members["data.pkl"] = (
        b"\x80\x02c" + module.encode() + b"\nDeployable\n)\x81\x89b."
    )  # an object of the class, and False as its state


TORCHSCRIPT: dict[str, Callable[[Members], None]] = {
    function.__name__: function
    for function in (
        save_a_file,
        map_a_file,
        operator_by_its_namespace,
        namespace_under_another_name,
        function_under_another_name,
        attribute_by_its_text,
        in_another_thread,
        while_it_loads,
    )
}
