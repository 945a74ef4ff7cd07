"""TorchScript: the module is traced in a separate process, so that the bytes do not depend on what ran before.

PyTorch numbers the classes of a process (`___torch_mangle_7`); only a fresh process gives the same numbers again.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from onward.errors import NotExportable
from onward.signature import AnySignature
from onward_export.deployable import Deployable
from onward_export.formats.archive import clean_archive
from onward_export.formats.handing_over import hand_over
from onward_export.formats.program import example_inputs
from onward_export.place import line_of_code
from onward_export.processes import FreshProcess

__all__ = ["torchscript_in_background"]

PROGRAM = "import sys; from onward_export.formats.tracing import main; main(*sys.argv[1:])"


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
        tracing = FreshProcess(PROGRAM, [str(handed_over), str(traced), how], paths=sys.path)
        try:
            yield
            code, errors = tracing.wait(), tracing.errors()
        finally:
            tracing.close()
        if code:
            line = line_of_code(errors)
            raise NotExportable(
                f"torch.jit cannot {how} the model{f', at {line}' if line else ''}: "
                f"{_reason(errors).rstrip('.')}. Leave TorchScript out: `--formats onnx,pt2`."
            )
        path.write_bytes(clean_archive(traced.read_bytes()))


def _reason(errors: str) -> str:
    """The first line of the error, and the line of code that the compiler marks."""
    lines = [line.rstrip() for line in errors.splitlines() if line.strip()]
    first = next(
        (at for at, line in enumerate(lines) if re.match(r"[\w.]+(Error|Exception|NotSupported\w*):?", line)), None
    )
    if first is None:
        return lines[-1] if lines else "it gave no reason"
    message = lines[first].partition(":")[2].strip() or (lines[first + 1].strip() if first + 1 < len(lines) else "")
    marked = next((lines[at - 1].strip() for at in range(first, len(lines)) if "<--- HERE" in lines[at]), "")
    return f"{message} ({marked})" if marked else message or lines[-1]
