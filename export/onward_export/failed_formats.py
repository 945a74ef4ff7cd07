"""Failed formats: those that are not in the bundle, and why.

A format that was asked for by name is an error. Otherwise the other formats are published, and the failed one is a row
on the terminal, in parity.json and in parity.html.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onward.errors import NotExportable, OnwardError, ParityFailure, Refusal, reason_of
from onward_export.gate import GateResult, refusal
from onward_export.options import ExportOptions

__all__ = ["DOES_NOT_RUN", "NOT_MADE", "WRONG", "FailedFormat", "FormatAttempts"]

#: What became of a format: nothing was written; a file that does not open or run; a file that the gate refused.
NOT_MADE, DOES_NOT_RUN, WRONG = "cannot be made", "does not run", "failed the gate"
#: The folders of an absolute path, which name a machine or a person.
FOLDERS = re.compile(r"(?<![\w:/\\.])(?:[A-Za-z]:)?(?:[/\\][^\s/\\:'\"<>|,]+)+[/\\](?=[^\s/\\])")


@dataclass(frozen=True)
class FailedFormat:
    """A format that is not in the bundle.

    Args:
        format: `onnx`, `torchscript` or `pt2`.
        outcome: `NOT_MADE`, `DOES_NOT_RUN` or `WRONG`.
        reason: Why, and what to try; without paths of this machine.
        result: The result of the gate, if the file runs.
    """

    format: str
    outcome: str
    reason: str
    result: GateResult | None = None

    def to_json(self) -> dict[str, Any]:
        """All parts; the gate's result as in `artifacts`."""
        result = None if self.result is None else self.result.to_json()
        return {"format": self.format, "outcome": self.outcome, "reason": self.reason, "result": result}


class FormatAttempts:
    """Keeps account of the formats that failed; raises at once where they were asked for by name.

    Args:
        options: The formats, and whether they were named.
    """

    def __init__(self, options: ExportOptions) -> None:
        self.options = options
        self.failed: list[FailedFormat] = []

    @property
    def open(self) -> tuple[str, ...]:
        """The formats that have not failed."""
        failed = {item.format for item in self.failed}
        return tuple(name for name in self.options.wanted if name not in failed)

    @contextmanager
    def making(self, *formats: str) -> Iterator[None]:
        """What the body raises is the reason why these formats cannot be made.

        Raises:
            NotExportable: One of them was asked for by name.
        """
        formats = tuple(name for name in formats if name in self.open)
        try:
            yield
        except Exception as error:  # PyTorch's exporters raise errors of every kind
            if isinstance(error, OSError) or (isinstance(error, OnwardError) and not isinstance(error, NotExportable)):
                raise
            reason = str(error) if isinstance(error, NotExportable) else _unexpected(error)
            self.fail(formats, NOT_MADE, NotExportable(reason), error)

    def fail(self, formats: Sequence[str], outcome: str, reason: Refusal, cause: BaseException | None = None) -> None:
        """Note that formats failed.

        Raises:
            Refusal: The reason, if the formats were asked for by name.
        """
        if self.options.formats is not None:
            raise reason from cause
        self.failed += [FailedFormat(name, outcome, FOLDERS.sub("", str(reason))) for name in formats]

    def reason(self, format: str) -> str:
        """Why a format failed; empty if it did not."""
        return next((item.reason for item in self.failed if item.format == format), "")

    def judge(self, results: Sequence[GateResult], page: Path) -> list[GateResult]:
        """The results of the artifacts that are published.

        Args:
            results: The gate's results of all artifacts that run.
            page: Where the page of a refusal is written.

        Raises:
            ParityFailure: No artifact passed, and at least one was made; or one that was asked for by name failed.
            NotExportable: No format could be made.
        """
        passed = [item for item in results if item.passed]
        if results and (not passed or (self.options.formats is not None and len(passed) < len(results))):
            raise ParityFailure(" ".join([str(refusal(results, page)), *self.sentences()]))
        self.failed += [
            FailedFormat(item.artifact, WRONG, FOLDERS.sub("", " ".join(item.reasons())), item)
            for item in results
            if not item.passed
        ]
        if not passed:
            kind = NotExportable if all(item.outcome == NOT_MADE for item in self.failed) else ParityFailure
            raise kind(f"no format passes, nothing was published. {' '.join(self.sentences())}")
        return passed

    def sentences(self) -> list[str]:
        """One for each reason: `onnx, pt2: …`."""
        names: dict[str, list[str]] = {}
        for item in self.failed:
            names.setdefault(item.reason, []).append(item.format)
        return [f"{', '.join(formats)}: {reason}" for reason, formats in names.items()]


def _unexpected(error: Exception) -> str:
    return f"the exporter ended with {type(error).__name__}: {reason_of(error).rstrip('.')}."
