"""Commands and inspectors of other packages, installed as pip leaves them: a module and its dist-info folder."""

from __future__ import annotations

import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.needs import needs_torch

Onward = Callable[..., subprocess.CompletedProcess[str]]
HELLO = '''
def hello(name: str = "you") -> None:
    """Greet somebody."""
    print(f"hello {name}")
'''
INSPECTOR = """
import zipfile
from onward.errors import BundleError

def inspect(path, as_json):
    if "hello.txt" not in zipfile.ZipFile(path).namelist():
        raise BundleError(f"{path} holds no hello.txt.")
    print("a greeting")
"""


def install(folder: Path, module: str, code: str, group: str, entry: str) -> None:
    """Put a distribution into a folder that is on sys.path."""
    information = folder / f"{module}-1.0.dist-info"
    information.mkdir()
    (folder / f"{module}.py").write_text(code)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[{group}]\n{entry}\n")


def archive(path: Path, member: str) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(member, "text")
    return path


def test_a_command_of_another_package_is_one_of_ours(onward: Onward, tmp_path: Path) -> None:
    install(tmp_path, "hello_package", HELLO, "onward.commands", "hello = hello_package:hello")
    assert " hello " in onward("--help", PYTHONPATH=str(tmp_path)).stdout
    assert onward("hello", "--name", "Ada", PYTHONPATH=str(tmp_path)).stdout == "hello Ada\n"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import a_package_that_is_not_there", "No module named 'a_package_that_is_not_there'"),
        ("hello = 1 / 0", "division by zero"),
        ("def hello(:", "invalid syntax"),
        ("", "module 'broken_package' has no attribute 'hello'"),
    ],
    ids=["import", "raises", "syntax", "attribute"],
)
def test_a_command_that_cannot_be_imported_is_reported_and_skipped(
    onward: Onward, tmp_path: Path, code: str, reason: str
) -> None:
    install(tmp_path, "broken_package", code, "onward.commands", "hello = broken_package:hello")
    result = onward("--version", PYTHONPATH=str(tmp_path))
    assert (result.returncode, result.stdout[:7]) == (0, "onward ")
    assert "onward: 'hello' (broken_package:hello) is skipped, it cannot be imported: " in result.stderr
    assert reason in result.stderr
    assert "Traceback" not in result.stderr
    assert onward("hello", PYTHONPATH=str(tmp_path)).returncode == 2


def test_the_first_inspector_that_can_read_a_zip_file_prints(onward: Onward, tmp_path: Path) -> None:
    install(tmp_path, "greeting_package", INSPECTOR, "onward.inspectors", "greeting = greeting_package:inspect")
    result = onward("inspect", archive(tmp_path / "a.zip", "hello.txt"), PYTHONPATH=str(tmp_path))
    assert (result.returncode, result.stdout) == (0, "a greeting\n")


@needs_torch
def test_a_zip_file_that_no_inspector_can_read_ends_with_a_sentence(onward: Onward, tmp_path: Path) -> None:
    path = archive(tmp_path / "a.zip", "other.txt")
    alone = onward("inspect", path)
    assert alone.returncode == 2
    assert alone.stderr.startswith(f"onward: {path} ")  # what the inspector of checkpoints says
    install(tmp_path, "greeting_package", INSPECTOR, "onward.inspectors", "greeting = greeting_package:inspect")
    both = onward("inspect", path, PYTHONPATH=str(tmp_path))
    assert (both.returncode, both.stdout) == (2, "")
    assert f"onward: {path} is a zip archive that no installed package can inspect, expected a bundle" in both.stderr
    assert "holds no hello.txt" in both.stderr


def test_without_an_inspector_a_zip_file_ends_with_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from onward.cli import inspect as module
    from onward.errors import BundleError

    monkeypatch.setattr(module, "load_extensions", lambda group: iter(()))
    with pytest.raises(BundleError, match=r"expected a bundle, an ONNX file or a checkpoint\.$"):
        module.inspect(archive(tmp_path / "a.zip", "other.txt"))
