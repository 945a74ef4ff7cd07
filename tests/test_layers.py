"""Imports run downwards only."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: Import package -> its folder, from the ground floor up.
FLOORS = {
    "onward": "runtime/onward",
    "onward_training": "training/onward_training",
    "onward_export": "export/onward_export",
}
#: What one file alone may import, and does without where it is not installed.
OPTIONAL = {
    "runtime/onward/__init__.py": {"onward_training", "onward_export"},  # public names, when first used
    "runtime/onward/backends/frozen_module.py": {"torch"},
    "runtime/onward/backends/openvino_backend.py": {"openvino"},
    "runtime/onward/backends/torch_backend.py": {"torch"},
    "runtime/onward/bundle/keys.py": {"cryptography"},
    "runtime/onward/images/heif.py": {"pillow_heif"},
    "runtime/onward/images/idx.py": {"isal"},
    "runtime/onward/sinks/parquet.py": {"pyarrow"},
    "runtime/onward/sources/parquet.py": {"pyarrow"},
    "training/onward_training/config_file.py": {"tomli"},
    "training/onward_training/default_weights.py": {"huggingface_hub"},
    "training/onward_training/loggers/mlflow_logger.py": {"mlflow"},
    "training/onward_training/loggers/tensorboard_logger.py": {"tensorboard"},
    "training/onward_training/models/libraries.py": {"timm"},
}
#: Import package -> (packages of ours, third parties) that it may import; typing_extensions for type checkers alone.
ALLOWED = {
    "onward": ({"onward"}, {"numpy", "onnxruntime", "PIL", "typer", "rich", "typing_extensions"}),
    "onward_training": (
        {"onward", "onward_training"},
        {"numpy", "PIL", "safetensors", "sklearn", "torch", "torchvision", "typer", "rich", "typing_extensions"},
    ),
    "onward_export": (
        {"onward", "onward_training", "onward_export"},
        {"cloudpickle", "numpy", "onnx", "onnx_ir", "onnxscript", "PIL", "torch", "typer", "rich", "typing_extensions"},
    ),
}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative imports hide which floor is meant"
            yield (node.module or "").split(".")[0]


@pytest.mark.parametrize("floor", FLOORS)
def test_a_floor_imports_only_what_is_its_own_or_below(floor: str) -> None:
    ours, others = ALLOWED[floor]
    for path in (ROOT / FLOORS[floor]).rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        may = ours | others | OPTIONAL.get(name, set())
        strange = {item for item in imports(path) if item not in sys.stdlib_module_names} - may
        assert not strange, f"{name} imports {strange}"


@pytest.mark.parametrize(
    "module", ["onward", "onward.backends", "onward.cli.app", "onward_training.commands", "onward_export.commands"]
)
def test_a_command_module_loads_nothing_heavy(module: str) -> None:
    heavy = {"torch", "onnxruntime", "numpy", "onnx", "PIL"}
    code = f"import {module}, sys; print(*sorted(set(sys.modules) & {heavy}))"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_the_help_of_the_command_loads_nothing_heavy(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "onward", "--help"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in result.stderr.splitlines()}
    assert "onward" in loaded
    assert not loaded & {"torch", "onnxruntime", "numpy", "onnx", "PIL"}


def test_opening_and_running_onnx_never_imports_torch(shared_bundle) -> None:
    code = (
        "import sys; from onward.classifier import load; from onward.bundle.verification import verify\n"
        f"classifier = load({str(shared_bundle.path)!r})\n"
        "assert all(item.passed for item in verify(classifier.bundle, artifacts=['onnx']))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


@pytest.mark.parametrize("file", ["", "model.onnx"])
def test_inspecting_imports_nothing_heavy(shared_bundle, file: str) -> None:
    code = (
        "import sys; from pathlib import Path; from onward.cli.inspect import inspect\n"
        f"inspect(Path({str(shared_bundle.path / file)!r}))\n"
        "assert not set(sys.modules) & {'torch', 'onnxruntime', 'numpy', 'onnx', 'PIL'}"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
