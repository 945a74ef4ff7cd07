"""The trained checkpoint and the bundles that tests share: made once, kept for later runs of the same code.

Training, exporting and importing PyTorch would otherwise be most of the time of many tests. `tests/making.py` makes
them, with PyTorch. Where PyTorch is not installed, tests take what an earlier run has made: `make test-runtime` makes
everything first. Without that, the bundle of digits is the one that is kept in tests/runtime/bundle/bundles.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from onward.bundle import Bundle
from onward.bundle.trust import remember
from onward.host.cpu import find_processor
from onward.signature import Input, Preprocess, Signature, TensorSignature
from tests.needs import WRITES_PT2

__all__ = ["DIGITS", "DIGITS_INT8", "NAMES", "SIGNATURES", "UNDEFINED", "path_of"]

ROOT = Path(__file__).parents[1]
#: pytest's own cache folder, which git ignores; or another one, for a checkout that is read-only.
FOLDER = Path(os.environ.get("ONWARD_TEST_BUNDLES", ROOT / ".pytest_cache" / "d" / "bundles"))
#: The code that decides what is made.
SOURCES = ("runtime/onward", "training/onward_training", "export/onward_export", "tests/bundles.py", "tests/making.py")
KEPT = ROOT / "tests" / "runtime" / "bundle" / "bundles" / "format-1"

#: Labels that would do harm if anything took them for more than text.
HOSTILE_PYTHON = ('"quoted"', "'''", "<script>alert(1)</script>", "two\nlines", "\x1b[2Jgone", "täglich 猫", "$name",
                  "\u202ereversed", "{label}", "a\\b")  # fmt: skip
HOSTILE_NODE = ('say "no"', "it's\u202e\x9b", "<script>alert(1)</script>", "<img src=x onerror=alert(1)>",
                "${process.exit(7)}", "`; throw new Error('no'); //", "two\nlines", "\x1b[31mred", "Größe 猫 🐈",
                "__proto__")  # fmt: skip

_COLOUR = Signature(
    20, 16, 3, (0.4, 0.5, 0.6), (0.2, 0.25, 0.3), HOSTILE_PYTHON, Preprocess("shorter-side", 24), interface="tensor"
)
_PLANES = Signature(12, 9, 3, (0.5,) * 3, (0.25,) * 3, ("a", "b"), interface="tensor")
SIGNATURES: dict[str, Signature | TensorSignature] = {
    "colour": _COLOUR,
    "colour-any-size": Signature(**vars(_COLOUR) | {"interface": "pixels", "dynamic_size": True}),
    "planes": _PLANES,
    "any-size": Signature(**vars(_PLANES) | {"interface": "pixels", "dynamic_size": True}),
    "five-inputs": TensorSignature(
        (
            Input("features", "float32", (13,)),
            Input("ids", "int64", (None,), (0, 99)),
            Input("mask", "bool", (4, None)),
            Input("age", "int32", ()),
            Input("weite", "uint8", (2,)),
        ),
        ("a", "b", "c"),
    ),
    "two-inputs": TensorSignature((Input("first", "float32", (6,)), Input("second", "float32", (6,))), ("a", "b", "c")),
    "undefined": Signature(8, 8, 1, (0.0,), (1.0,), ("down", "up")),
    "licensed": TensorSignature((Input("features", "float32", (13,)),), ("a", "b")),
}
DIGITS = "digits"
#: The same bundle with a second artifact, `onnx-int8`.
DIGITS_INT8 = "digits-int8"
#: The bundle `undefined` gives NaN for an image that begins with these pixels. No sample of the gate does.
UNDEFINED = (3, 4, 5)
#: The state folder of the tests: no test reads or writes the user's own.
STATE = FOLDER.parent / "onward-state"
NAMES = ("digits.pt", DIGITS, DIGITS_INT8, *SIGNATURES, "hostile-labels", "fashion")


def path_of(name: str) -> Path:
    """The bundle or checkpoint of this name. Read it, do not change it.

    Skips the test where it is not there and cannot be made.
    """
    path = _find(name)
    if path.is_dir() and path != KEPT:
        remember(Bundle.open(path).manifest_sha256, path)  # as if this user had exported it, whoever ran it first
    return path


def _find(name: str) -> Path:
    path = FOLDER / _digest() / name
    if path.exists():
        return path
    if importlib.util.find_spec("torch") is None:
        if name == DIGITS:
            return KEPT
        pytest.skip("PyTorch is not installed, and no earlier run has made this bundle: `make test-runtime` does")
    with _locked(path):
        if not path.exists():
            _make(path)
    return path


def _make(path: Path) -> None:
    from tests.making import make

    for old in FOLDER.iterdir():
        if old.name != _digest() and old.stat().st_mtime < path.parent.stat().st_mtime:
            shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
        make(path.name, Path(folder, path.name))
        Path(folder, path.name).rename(path)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time makes what `path` names; the others wait for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        import fcntl
    except ImportError:  # Windows: each process would make its own
        yield
        return
    with path.with_name(f".{path.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@functools.cache
def _digest() -> str:
    """Changes with all that decides the bits: the code, the packages, the processor, the number of threads.

    PyTorch before 2.9 writes no .pt2, and finds no bundles that have one.
    """
    processor = find_processor()
    machine = f"{processor.model} {processor.features} {os.environ.get('OMP_NUM_THREADS')} {WRITES_PT2}"
    digest = hashlib.sha256((ROOT / "requirements.txt").read_bytes() + machine.encode())
    for source in SOURCES:
        path = ROOT / source
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]
