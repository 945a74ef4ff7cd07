"""Place: where in a network something happened: operator, module, file and line."""

from __future__ import annotations

import functools
import linecache
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, TracebackType

from torch import nn
from torch.fx import Node

__all__ = [
    "Place",
    "frame_of_network",
    "line_of_code",
    "node_of_error",
    "place_of_error",
    "place_of_line",
    "place_of_node",
]

#: Files with these in their paths are not the network's.
LIBRARIES = ("/site-packages/torch/", "/torchvision/ops/", "/onward_export/", "/onward_training/", "/tests/forks.py")

#: Frames below those of the network.
OUTSIDE = ("/onward_export/deployable.py", "/onward_export/formats/program.py")


@dataclass(frozen=True)
class Place:
    """Where in a network something happened. What is not known is empty.

    Args:
        operator: e.g. `torch.cdist` or `aten.cummax.default`.
        module: The path of the module that called it, e.g. `model.layers.3`.
        line: e.g. `net.py:12, in forward: y = torch.cdist(x, self.p)`.
    """

    operator: str = ""
    module: str = ""
    line: str = ""

    def __str__(self) -> str:
        inside = f" in {self.module}" if self.module else ""
        return f"{self.operator or 'the model'}{inside}{f', at {self.line}' if self.line else ''}"

    def as_subject(self) -> str:
        """For the middle of a sentence: `aten.to in model.1 (net.py:12, in forward: …)`."""
        inside = f" in {self.module}" if self.module else ""
        return f"{self.operator or 'the model'}{inside}{f' ({self.line})' if self.line else ''}"

    def in_brackets(self) -> str:
        """For the end of a sentence: `, at net.py:12, in forward: … (torch.cdist in model.head)`; empty if unknown."""
        if not self.line:
            return ""
        called = " in ".join(filter(None, (self.operator, self.module)))
        return f", at {self.line}{f' ({called})' if called else ''}"


def line_of_code(text: str) -> str:
    """The last line of a traceback that is the network's: `net.py:12, in forward: if x.sum() > 0:`."""
    frames = re.findall(r'File "([^"]+)", line (\d+), in (\S+)\n\s*(\S[^\n]*)', text)
    theirs = [frame for frame in frames if _is_theirs(frame[0])]
    if not theirs:
        return ""
    path, line, function, code = theirs[-1]
    return f"{Path(path).name}:{line}, in {function}: {code.strip()}"


def place_of_error(error: BaseException, module: nn.Module) -> Place:
    """The last line of the network in an error's traceback, or in that of its causes."""
    cause: BaseException | None = error
    while cause is not None:
        frames = list(_frames(cause.__traceback__))
        for frame, line in reversed(frames):
            if _is_theirs(frame.f_code.co_filename):
                return place_of_line(frame.f_code, line, _locals(frame).get("self"), module)
        cause = cause.__cause__ or cause.__context__
    return Place(line=line_of_code(str(error)))


def frame_of_network(frame: FrameType | None) -> FrameType | None:
    """The innermost frame of the network on the stack; None where the exporter itself calls."""
    while frame is not None and not _is_theirs(frame.f_code.co_filename):
        frame = None if frame.f_code.co_filename.endswith(OUTSIDE) else frame.f_back
    return frame


def place_of_node(node: Node) -> Place:
    """Where the operator of a node was called."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    module = stack[-1][0].removeprefix("L['self'].") if stack else ""
    sources = list(node.meta.get("from_node") or ())
    while sources and sources[0].from_node:  # the exporter may have decomposed the operator that the network calls
        sources = list(sources[0].from_node)
    operator = str(sources[0].target if sources else node.target)
    return Place(operator, module or "the top module", line_of_code(node.meta.get("stack_trace") or ""))


def node_of_error(error: BaseException) -> Node | None:
    """The node that an exporter was at when it raised the error."""
    cause: BaseException | None = error
    while cause is not None:
        for frame, _ in reversed(list(_frames(cause.__traceback__))):
            node = _locals(frame).get("node")
            if isinstance(node, Node) and node.op == "call_function":
                return node
        cause = cause.__cause__
    return None


def _frames(traceback: TracebackType | None) -> list[tuple[FrameType, int]]:
    frames = []
    while traceback is not None:
        frames.append((traceback.tb_frame, traceback.tb_lineno))
        traceback = traceback.tb_next
    return frames


def place_of_line(code: CodeType, line: int, owner: object, network: nn.Module, operator: str = "") -> Place:
    """A line of the network's code, and the module whose method it is in."""
    name = next((name for name, item in network.named_modules() if item is owner), "")
    text = linecache.getline(code.co_filename, line).strip()
    where = f"{Path(code.co_filename).name}:{line}, in {code.co_name}{f': {text}' if text else ''}"
    return Place(operator, name, where)


def _locals(frame: FrameType) -> Mapping[str, object]:
    return frame.f_locals


@functools.cache  # an export asks for each frame above each operator
def _is_theirs(path: str) -> bool:
    is_generated = path.startswith("<") and not path.startswith("<ipython")
    return not is_generated and not any(part in path for part in LIBRARIES)
