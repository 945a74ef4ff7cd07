"""Public names: the face `onward` agrees with itself, and a class name is used once in the whole project."""

from __future__ import annotations

import ast
import importlib
import inspect
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

import onward
from onward import api

ROOT = Path(__file__).parent.parent
PACKAGES = ("runtime/onward", "training/onward_training", "export/onward_export")
FACE = ast.parse((ROOT / "runtime/onward/__init__.py").read_text())


def type_checking_imports() -> dict[str, str]:
    """Name -> module, of what a type checker sees in `onward`."""
    (block,) = (node for node in FACE.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name))
    return {
        alias.name: node.module or "" for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }


def test_the_face_promises_what_a_type_checker_and_a_program_find() -> None:
    assert type_checking_imports() == onward._MODULES
    assert sorted(onward.__all__) == sorted([*onward._MODULES, "__version__"]) == dir(onward)


@pytest.mark.parametrize("name", onward._MODULES)
def test_a_public_name_is_public_in_its_module(name: str) -> None:
    module = importlib.import_module(onward._MODULES[name])
    assert name in module.__all__
    assert getattr(onward, name) is getattr(module, name)


def test_the_functions_of_the_runtime_are_those_of_its_api() -> None:
    assert sorted(api.__all__) == sorted(name for name, module in onward._MODULES.items() if module == "onward.api")
    assert all(inspect.isfunction(getattr(api, name)) for name in api.__all__)
    written = {
        name for name, value in vars(api).items() if inspect.isfunction(value) and value.__module__ == "onward.api"
    }
    assert {name for name in written if not name.startswith("_")} == set(api.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'onward' has no attribute 'nothing'"):
        onward.nothing  # noqa: B018


def public_classes() -> Iterator[tuple[str, str]]:
    """Name and module of each class that is defined in a module and listed in its `__all__`."""
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            if "templates" in path.parts:  # files of the apps that embed writes
                continue
            body = ast.parse(path.read_text()).body
            public = {
                name
                for node in body
                if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
                for name in ast.literal_eval(node.value)
            }
            for node in body:
                if isinstance(node, ast.ClassDef) and node.name in public:
                    yield node.name, path.relative_to(ROOT).as_posix()


def test_a_public_class_name_is_used_once() -> None:
    places = defaultdict(list)
    for name, path in public_classes():
        places[name].append(path)
    assert len(places) > 50
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}
