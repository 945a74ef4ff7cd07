"""TorchScript: the module is traced in a separate process, so that the bytes do not depend on what ran before.

PyTorch numbers the classes of a process (`___torch_mangle_7`); only a fresh process gives the same numbers again.
`python -m onward_export.formats.torchscript MODULE OUT trace|script` is that process.
"""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.autograd.function import Function, FunctionCtx

from onward.backends.torch_backend import torchscript_is_meant
from onward.errors import NotExportable
from onward.signature import AnySignature
from onward_export.deployable import Deployable
from onward_export.formats.archive import clean_archive
from onward_export.formats.handing_over import hand_over
from onward_export.formats.program import example_inputs
from onward_export.place import line_of_code

__all__ = ["torchscript_in_background"]


@contextmanager
def torchscript_in_background(
    deployable: Deployable, path: Path, signature: AnySignature, *, how: str = "trace"
) -> Iterator[None]:
    """Trace a module to `path` while the body of the context runs; on leaving, the file is written.

    Args:
        deployable: The module.
        path: The file to write.
        signature: The inputs and outputs.
        how: `trace`, or `script`, which keeps control flow of the network that depends on data.

    Raises:
        NotExportable: The module cannot be pickled for the other process, or cannot be traced.

    Source: torch.jit, `trace`, `script`, `save`.
    """
    example = example_inputs(deployable, signature)
    with tempfile.TemporaryDirectory(prefix="onward-") as folder:
        handed_over, traced = Path(folder, "module.pickle"), Path(folder, "model.torchscript")
        handed_over.write_bytes(hand_over(deployable, example))
        with subprocess.Popen(
            [sys.executable, "-m", __spec__.name, str(handed_over), str(traced), how],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield
                _, stderr = process.communicate()
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            line = line_of_code(stderr)
            raise NotExportable(
                f"torch.jit cannot {how} the model{f', at {line}' if line else ''}: "
                f"{_reason(stderr).rstrip('.')}. Leave TorchScript out: `--formats onnx,pt2`."
            )
        path.write_bytes(clean_archive(traced.read_bytes()))


def _reason(stderr: str) -> str:
    """The first line of the error, and the line of code that the compiler marks."""
    lines = [line.rstrip() for line in stderr.splitlines() if line.strip()]
    first = next(
        (at for at, line in enumerate(lines) if re.match(r"[\w.]+(Error|Exception|NotSupported\w*):?", line)), None
    )
    if first is None:
        return lines[-1] if lines else "it gave no reason"
    message = lines[first].partition(":")[2].strip() or (lines[first + 1].strip() if first + 1 < len(lines) else "")
    marked = next((lines[at - 1].strip() for at in range(first, len(lines)) if "<--- HERE" in lines[at]), "")
    return f"{message} ({marked})" if marked else message or lines[-1]


@contextmanager
def _autograd_functions_run_forward() -> Iterator[None]:
    """An autograd function is what its `forward` computes: TorchScript can hold that, and not the function."""

    def apply(cls: type[Function], *args: Any, **kwargs: Any) -> Any:
        if cls.setup_context is not Function.setup_context:
            return cls.forward(*args, **kwargs)
        return cls.forward(FunctionCtx(), *args, **kwargs)

    with mock.patch.object(Function, "apply", classmethod(apply)):
        yield


def _write(handed_over: Path, path: Path, how: str) -> None:
    deployable, example = pickle.loads(handed_over.read_bytes())
    with torchscript_is_meant(), torch.no_grad(), _autograd_functions_run_forward():
        if how == "script":  # the network has the control flow; the normalisation around it is traced
            deployable.model = torch.jit.script(deployable.model)
        traced = torch.jit.trace(deployable, example)  # type: ignore[no-untyped-call]
        torch.jit.save(traced, path)


if __name__ == "__main__":
    _write(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
