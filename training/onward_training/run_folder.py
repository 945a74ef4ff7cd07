"""RunFolder: a run on disk, so that none is lost: the best epoch, the last state, and a line an epoch.

`fashion.pt` is the best epoch, `fashion.last.pt` where the run stands, `fashion.metrics.jsonl` its history. Each is
written to the side, synced and renamed, the best before the last: whatever moment a crash picks, a run goes on from a
state that was whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from onward.errors import CheckpointError, UsageError
from onward.files import written_whole
from onward_training.checkpoint import Checkpoint, Epoch

__all__ = ["RunFolder"]


@dataclass(frozen=True)
class RunFolder:
    """Where a run is kept.

    Args:
        path: Of the best epoch: the checkpoint that is evaluated and exported.
        save_every_s: Seconds after which the state is saved within an epoch; it is after each in any case.
    """

    path: Path
    save_every_s: float = 600.0

    @property
    def last_path(self) -> Path:
        """The state to go on from."""
        return self.path.with_name(f"{self.path.stem}.last{self.path.suffix}")

    @property
    def metrics_path(self) -> Path:
        """One JSON object an epoch."""
        return self.path.with_name(f"{self.path.stem}.metrics.jsonl")

    def save(self, last: Checkpoint, best: Checkpoint | None = None) -> None:
        """Write the state, and before it the best epoch where that is a new one.

        Raises:
            OutputError: The place cannot be written to, or is full; what stood there is untouched.
        """
        if best is not None:
            best.save(self.path)
        last.save(self.last_path)
        with written_whole(self.metrics_path) as staged:
            staged.write_text("".join(_line(epoch) for epoch in last.history), encoding="utf-8")

    def find(self) -> tuple[Checkpoint, Checkpoint | None] | None:
        """The last state of the run that is here, and its best epoch; None where there is no run.

        Raises:
            CheckpointError: The best epoch is gone, or a file is damaged.
        """
        if not self.last_path.is_file():
            return None
        last = Checkpoint.load(self.last_path)
        best_epoch = last.progress["best_epoch"]
        if not best_epoch:
            return last, None
        if not self.path.is_file():
            raise CheckpointError(
                f"{self.path}, which held epoch {best_epoch}, the best one, is gone. Copy {self.last_path} there to go "
                f"on with the last state as the best."
            )
        return last, Checkpoint.load(self.path)

    def check_free(self) -> None:
        """That no unfinished run stands where a new one would be written.

        Raises:
            UsageError: One does.
        """
        found = self.find() if self.last_path.is_file() else None
        if found is not None and not found[0].progress["finished"]:
            last = found[0]
            raise UsageError(
                f"{self.last_path} is an unfinished run, {len(last.history)} epochs long: --resume goes on with it, "
                f"--overwrite begins anew."
            )


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What is not the same in two runs' identities, a phrase each."""
    return [
        f"{name.replace('_', ' ')} was {before.get(name)}, now is {value}"
        for name, value in now.items()
        if before.get(name) != value
    ]


def _line(epoch: Epoch) -> str:
    return json.dumps(asdict(epoch)) + "\n"
