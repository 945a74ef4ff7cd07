"""Section: one subject of the run, in a process of its own. It yields rows, and each is written when it comes."""

from __future__ import annotations

import importlib
import json
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from onward.errors import reason_of

__all__ = ["STAGES", "Row", "Section", "Setting", "attempt", "run_section"]

#: What a table has on one line: plain JSON values. A row with the key `error` says what failed.
Row = dict[str, Any]
MAX_REASON = 300


@dataclass(frozen=True)
class Setting:
    """What a run is about.

    Args:
        device: `cuda`, or `cpu` in its place.
        work: Folder of bundles, photographs and compiled code; kept for the next run.
        out: Folder of the results.
        quick: Tiny sizes: the run tests the plumbing.
    """

    device: str
    work: Path
    out: Path
    quick: bool = False

    @property
    def networks(self) -> tuple[str, ...]:
        """Names of the networks."""
        return ("cnn", "vit_s_16") if self.quick else ("cnn", "resnet18", "resnet50", "vit_s_16")

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """Images per inference, the most telling first: a section may be cut off."""
        return (2,) if self.quick else (1, 32, 8, 128)

    @property
    def compiled_batch_sizes(self) -> tuple[int, ...]:
        """Those that PyTorch is compiled for: each takes seconds, also where the compiled code is in the cache."""
        return self.batch_sizes[:2]


@dataclass(frozen=True)
class Section:
    """One subject.

    Args:
        name: In the results: the module in this folder, and after a colon its argument, such as `latency:cnn`.
        limit_s: Seconds after which it is ended.
        on_cpu: Whether the CPU can take the card's place.
    """

    name: str
    limit_s: float
    on_cpu: bool = True


NETWORKS = ("cnn", "resnet18", "resnet50", "vit_s_16")
#: Stages run one after the other, the sections of a stage at the same time: only those that time nothing share a stage.
#: What matters most comes first: a run may have less time than all of them together.
STAGES: tuple[tuple[Section, ...], ...] = (
    (Section("machine", 60),),
    (*(Section(f"bundles:{name}", 200) for name in NETWORKS), Section("photographs", 60), Section("suite", 170)),
    (Section("parity", 90),),
    *((Section(f"latency:{name}", 75),) for name in NETWORKS),
    *((Section(f"precision:{name}", 60),) for name in NETWORKS if name != "resnet50"),
    (Section("training", 60),),
    (Section("jpegs", 75),),
    (Section("binding", 40),),
    (Section("cuda_graphs", 50, on_cpu=False),),
    (Section("tf32", 40),),
)


def attempt(base: Row, measure: Callable[[], Row]) -> Row:
    """The row that is measured, or the row with the reason why it could not be."""
    try:
        return base | measure()
    except Exception as error:  # whatever a library raises is the result
        traceback.print_exc()
        return base | {"error": reason_of(error)[:MAX_REASON]}


def run_section(name: str, setting: Setting, path: Path) -> None:
    """Run one section in this process; its rows go to `path`, one JSON object on a line."""
    module, _, argument = name.partition(":")
    with path.open("a", encoding="utf-8") as stream:
        try:
            run = cast("Callable[..., Iterator[Row]]", importlib.import_module(f"benchmarks.gpu.{module}").run)
            for row in run(setting, argument) if argument else run(setting):
                stream.write(json.dumps(row, default=_plain) + "\n")
                stream.flush()
        except Exception as error:
            stream.write(json.dumps({"error": reason_of(error)[:MAX_REASON]}) + "\n")
            raise


def _plain(value: Any) -> object:
    """A number of numpy's as one of Python's; else its text."""
    return value.item() if hasattr(value, "item") else str(value)
