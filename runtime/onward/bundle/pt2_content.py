"""What a .pt2 file says, checked before `torch.export.load` reads it, without PyTorch.

`torch.export.load` trusts the file: it unpickles objects, evaluates expressions and guards as Python, imports modules
that tree specifications name, writes names into the Python code of a graph, and calls whatever function of `torch` a
node names. Files that Onward writes have tensors, nodes that call operators of aten and torchvision, and sizes as
expressions; anything else is refused.

Source: PyTorch 2.15, torch/_export/serde (schema, serialize), torch/export/pt2_archive/_package.py.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from onward.bundle.pt2_program import check_path, check_program
from onward.bundle.torch_archive import check_repeated, read_archive, refuse, write_archive
from onward.errors import BackendError

__all__ = ["check_pt2"]

WHAT = ".pt2"
MODEL = "models/model.json"
WEIGHTS, CONSTANTS = "data/weights/model_weights_config.json", "data/constants/model_constants_config.json"
SAMPLE_INPUTS = "data/sample_inputs/model.pt"
#: Further members: what the archive is, and the tensors.
MARKS = ("archive_format", "archive_version", ".data/version", ".data/serialization_id", "byteorder")
TENSOR = re.compile(r"data/(?:weights/weight|constants/tensor)_\d+")
#: Bytes of one number of each dtype.
DTYPE_BYTES = {
    1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 9: 4, 10: 8, 11: 16, 12: 1, 13: 2,
    28: 2, 29: 1, 30: 1, 31: 1, 32: 1, 33: 1, 34: 4, 35: 8,
}  # fmt: skip


def check_pt2(data: bytes) -> bytes:
    """Check a .pt2 file.

    Returns:
        An archive of what was checked; open this one.

    Raises:
        BackendError: The file is damaged, or no .pt2.
        BundleError: It says what no file of Onward says.
    """
    members = read_archive(data, WHAT, (MODEL, WEIGHTS, CONSTANTS))
    for name, content in members.items():
        if name == SAMPLE_INPUTS:
            if content:
                refuse(WHAT, "it has sample inputs, which are a pickle")
        elif name not in (MODEL, WEIGHTS, CONSTANTS, *MARKS) and not TENSOR.fullmatch(name):
            refuse(WHAT, f"it holds {name!r}, expected a program and its tensors")
    try:
        check_program(_read_json(members, MODEL))
        for config, folder in ((WEIGHTS, "data/weights/"), (CONSTANTS, "data/constants/")):
            _check_tensors(_read_json(members, config)["config"], members, folder)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise BackendError(
            f"PyTorch cannot open the {WHAT} file: {MODEL} is damaged ({type(error).__name__}: {error})."
        ) from error
    return write_archive(members)


def _read_json(members: Mapping[str, memoryview], name: str) -> dict[str, Any]:
    document = json.loads(bytes(members[name]).decode())
    if not isinstance(document, dict):
        raise ValueError(f"{name} is no object")
    return document


def _check_tensors(config: Mapping[str, Any], members: Mapping[str, memoryview], folder: str) -> None:
    repeated = 0
    for path, entry in config.items():
        check_path(path)
        meta = entry["tensor_meta"]
        stored = folder + entry["path_name"]
        if entry["use_pickle"] is not False or meta is None:
            refuse(WHAT, f"{path} is a pickle, expected a tensor")
        if not TENSOR.fullmatch(stored) or stored not in members:
            refuse(WHAT, f"{path} is in {entry['path_name']!r}, which is no tensor in it")
        sizes = [size["as_int"] for size in meta["sizes"]]
        if not all(type(size) is int and size >= 0 for size in sizes) or meta["dtype"] not in DTYPE_BYTES:
            refuse(WHAT, f"{path} has the sizes {sizes} and the dtype {meta['dtype']!r}")
        repeated += max(0, math.prod(sizes) * DTYPE_BYTES[meta["dtype"]] - len(members[stored]))
    check_repeated(repeated, WHAT)
