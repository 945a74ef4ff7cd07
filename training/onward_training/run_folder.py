"""Run folder: the files of a training run on disk, from which an interrupted run resumes.

`fashion.pt` is the best epoch, `fashion.last.pt` the latest state, `fashion.metrics.jsonl` one line for each epoch,
`fashion.batch.png` a picture of the first training batch, `fashion.options.toml` the options of the run,
`fashion.logs.json` which logs it has at its loggers, if there are some.
Each file is written under another name, synced and renamed, the latest state last. So a crash at any moment leaves a
complete state to resume from, and what is ahead of it is written again, with the same content.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from onward.document import parse
from onward.errors import CheckpointError, UsageError
from onward.files import check_writable, remove_leftovers, written_whole
from onward.locks import sole_writer

if TYPE_CHECKING:
    from PIL import Image

    from onward_training.checkpoint import Checkpoint, Epoch

__all__ = ["RunFolder"]


@dataclass(frozen=True)
class RunFolder:
    """Where the files of a run are.

    Args:
        path: The best epoch: the checkpoint to evaluate and export. The other files are beside it.
        save_every_s: Seconds between two saves of the latest state within an epoch. It is also saved after each epoch.
        options: The options of the run as TOML; written with the best epoch, if there are some.
    """

    path: Path
    save_every_s: float = 600.0
    options: str = ""

    @property
    def last_path(self) -> Path:
        """The latest state, from which a run resumes."""
        return self.path.with_name(f"{self.path.stem}.last{self.path.suffix}")

    @property
    def metrics_path(self) -> Path:
        """One JSON object for each epoch."""
        return self.path.with_name(f"{self.path.stem}.metrics.jsonl")

    @property
    def options_path(self) -> Path:
        """The options, as `--config` takes them."""
        return self.path.with_name(f"{self.path.stem}.options.toml")

    @property
    def batch_path(self) -> Path:
        """A picture of the first training batch."""
        return self.path.with_name(f"{self.path.stem}.batch.png")

    @property
    def logs_path(self) -> Path:
        """Which logs the run has at its loggers."""
        return self.path.with_name(f"{self.path.stem}.logs.json")

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """Let no other run write here meanwhile, and remove what a run that was killed left behind.

        Raises:
            OutputError: Another run writes here, or the files cannot be written.
        """
        self.check_writable()
        with sole_writer(self.path):
            for path in self._paths:
                remove_leftovers(path)
            yield

    def check_writable(self) -> None:
        """Check that the files can be written, before the work begins.

        Raises:
            OutputError: One cannot.
        """
        for path in self._paths:
            check_writable(path)

    @property
    def _paths(self) -> tuple[Path, ...]:
        return self.path, self.last_path, self.metrics_path, self.batch_path, self.options_path, self.logs_path

    def save_batch(self, picture: Image.Image) -> None:
        """Write the picture of the first training batch.

        Raises:
            OutputError: The folder cannot be written to, or the disk is full.
        """
        with written_whole(self.batch_path) as staged:
            picture.save(staged, "PNG")

    def logs(self) -> dict[str, str]:
        """The logger's name -> its log of this run, as `Logger.open` returned it.

        Raises:
            CheckpointError: The file is damaged.
        """
        if not self.logs_path.is_file():
            return {}
        document = parse(self.logs_path.read_bytes(), str(self.logs_path), CheckpointError)
        return document.read(dict[str, str])

    def save_logs(self, logs: Mapping[str, str]) -> None:
        """Write what `logs` reads.

        Raises:
            OutputError: The folder cannot be written to, or the disk is full.
        """
        with written_whole(self.logs_path) as staged:
            staged.write_text(json.dumps(logs, indent=2) + "\n", encoding="utf-8")

    def forget_logs(self) -> None:
        """Remove what an earlier run said: its logs are not those of a new one."""
        self.logs_path.unlink(missing_ok=True)

    def save(self, last: Checkpoint, best: Checkpoint | None = None) -> None:
        """Write the latest state, and before it the best epoch if there is a new one.

        The first epoch of a run replaces the best one of an earlier run. Its latest state is removed before: together,
        the two would be taken for one run.

        Raises:
            OutputError: The folder cannot be written to, or the disk is full; earlier files are unchanged.
        """
        if best is not None:
            if len(best.history) == 1:
                self.last_path.unlink(missing_ok=True)
            best.save(self.path)
            if self.options:
                with written_whole(self.options_path) as staged:
                    staged.write_text(self.options, encoding="utf-8")
        with written_whole(self.metrics_path) as staged:
            staged.write_text("".join(_line(epoch) for epoch in last.history), encoding="utf-8")
        last.save(self.last_path)

    def find(self) -> tuple[Checkpoint, Checkpoint | None] | None:
        """The latest state and the best epoch of the run that is here; None if there is no run.

        Raises:
            CheckpointError: The best epoch is missing, or a file is damaged.
        """
        if not self.last_path.is_file():
            return None
        from onward_training.checkpoint import Checkpoint

        last = Checkpoint.load(self.last_path)
        best_epoch = last.progress["best_epoch"]
        if not best_epoch:
            return last, None
        if not self.path.is_file():
            raise CheckpointError(
                f"{self.path} is missing: it held epoch {best_epoch}, the best one. To resume with the latest state "
                f"as the best one, copy {self.last_path} to {self.path}."
            )
        return last, Checkpoint.load(self.path)

    def check_free(self) -> None:
        """Check that a new run would overwrite nothing.

        Raises:
            UsageError: There is a run, or another file.
        """
        found = self.find() if self.last_path.is_file() else None
        if found is None:
            if self.path.exists():
                raise UsageError(f"{self.path} exists. --overwrite replaces it, another --out keeps it.")
            return
        count = len(found[0].history)
        if found[0].progress["finished"]:
            raise UsageError(
                f"{self.path} is a finished run of {count} epochs: --resume --epochs {2 * count} goes on with it, "
                f"--overwrite replaces it, another --out keeps it."
            )
        raise UsageError(
            f"{self.last_path} is an unfinished run of {count} epochs: --resume continues it, --overwrite starts a new "
            f"one."
        )

    def next_free(self) -> RunFolder:
        """This folder if no run is here, else the first one that is free of `fashion-2.pt`, `fashion-3.pt` …"""
        number, folder = 1, self
        while folder.path.exists() or folder.last_path.exists():
            number += 1
            folder = replace(self, path=self.path.with_stem(f"{self.path.stem}-{number}"))
        return folder


def _line(epoch: Epoch) -> str:
    return json.dumps(asdict(epoch)) + "\n"
