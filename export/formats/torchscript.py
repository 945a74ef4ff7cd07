"""TorchScript: the module traced in a process of its own, so that its bytes do not depend on what ran before.

PyTorch numbers the classes of a process (`___torch_mangle_7`); only a fresh one gives the same numbers again.
`python -m export.formats.torchscript MODULE OUT` is that process.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cloudpickle
import torch

from export.archive import rewrite
from export.deployable import Deployable
from runtime.backends.torchscript import torchscript_is_meant
from runtime.errors import NotExportable
from runtime.signature import Signature

__all__ = ["torchscript_beside"]


@contextmanager
def torchscript_beside(deployable: Deployable, path: Path, signature: Signature) -> Iterator[None]:
    """Trace a module to `path`, for a batch of any size, while the body runs; on leaving, the file is there.

    Raises:
        NotExportable: The module cannot be handed over to the other process, or cannot be traced.

    Source: torch.jit, `trace`, `save`.
    """
    example = torch.zeros((2, *signature.image_shape), dtype=torch.uint8)
    with tempfile.TemporaryDirectory(prefix="onward-") as folder:
        handed_over, traced = Path(folder, "module.pickle"), Path(folder, "model.torchscript")
        try:
            handed_over.write_bytes(cloudpickle.dumps((deployable, example)))
        except (TypeError, AttributeError, pickle.PicklingError) as error:
            raise NotExportable(f"the model cannot be pickled to be traced: {error}") from error
        with subprocess.Popen(
            [sys.executable, "-m", __spec__.name, str(handed_over), str(traced)],
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield
                _, complaint = process.communicate()
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            lines = complaint.strip().splitlines() or ["no reason was given"]
            raise NotExportable(f"torch.jit cannot trace the model: {lines[-1]}")
        path.write_bytes(rewrite(traced.read_bytes()))


def _trace(handed_over: Path, path: Path) -> None:
    deployable, example = pickle.loads(handed_over.read_bytes())
    with torchscript_is_meant(), torch.no_grad():
        traced = torch.jit.trace(deployable, (example,))  # type: ignore[no-untyped-call]
        torch.jit.save(traced, path)


if __name__ == "__main__":
    _trace(*map(Path, sys.argv[1:]))
