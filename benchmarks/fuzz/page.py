"""Page: docs/fuzz.md, the table of readers and outcomes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.fuzz.campaign import ReaderOutcomes
from benchmarks.fuzz.case import MAX_RISE_BYTES
from onward.printable import printable

__all__ = ["page"]

#: Outcome -> its column.
COLUMNS = {"read": "read", "refused": "refused", "traceback": "tracebacks", "execution": "executions",
           "escape": "escapes", "hang": "hangs", "death": "deaths", "memory": "memory"}  # fmt: skip
MAX_LISTED = 20


def page(readers: Sequence[ReaderOutcomes], *, seed: int) -> str:
    """The whole page."""
    return "\n".join(_lines([item for item in readers if item.num_cases], seed))


def _lines(readers: Sequence[ReaderOutcomes], seed: int) -> Iterator[str]:
    total = sum(item.num_cases for item in readers)
    failures = [failure for item in readers for failure in item.failures]
    yield from (
        "# Hostile files",
        "",
        "`make fuzz` writes this page. It damages whole files in every way that a fault or a stranger might: flipped",
        "bits, cuts, doubled and missing parts, parts of other files, numbers that become extreme, JSON values of",
        "other types, members of archives with checksums that hold. Each reader opens such a file as a command does,",
        "uses what it finds, and prints it.",
        "",
        f"With seed {seed}: **{total:,} cases, {len(failures)} failures**.",
        "",
        f"| reader | cases | {' | '.join(COLUMNS.values())} | peak MiB |",
        f"| --- |{' ---: |' * (len(COLUMNS) + 2)}",
    )
    for item in readers:
        counts = [item.counts[name] for name in COLUMNS]
        figures = " | ".join(f"{count:,}" for count in (item.num_cases, *counts, item.peak_mib))
        yield f"| {item.reader} | {figures} |"
    yield from (
        "",
        "- *read*: nothing in the damage matters to this reader, or only to one image of several, which it lists.",
        "- *refused*: a sentence with the file and the reason; exit code 1 or 2.",
        "- *.pt2 program*, *TorchScript program*: the files of a trusted bundle, and 18 planted attacks that work in",
        "  PyTorch itself, damaged. *Read* ones passed the check: PyTorch opened and ran them, or refused them itself.",
        "  All others were refused before PyTorch saw them.",
        "- *execution*: a program wrote a file, started a process or changed the environment.",
        "- *traceback*: any other error. *escape*: a character that a terminal obeys was printed.",
        f"- *memory*: one file took {MAX_RISE_BYTES >> 20} MiB more than the process had. *hang*: more than 20 s.",
        "- *death*: the process ended. The peak has Python, PyTorch and onnxruntime in it.",
    )
    if failures:
        yield from ("", "## Failures", "")
        yield from (
            f"- {item.reader}, case {item.at}: {item.result.outcome}, `{printable(item.result.where)}`"
            for item in failures[:MAX_LISTED]
        )
        if len(failures) > MAX_LISTED:
            yield f"- … and {len(failures) - MAX_LISTED:,} more"
    yield from (
        "",
        "## Why our own mutations",
        "",
        "Coverage-guided fuzzing (Atheris) instruments Python code. Most of what is read here is read by C and C++ in",
        "Pillow, pyarrow, onnxruntime and PyTorch, which it does not see, and it has no fixed set of cases to repeat.",
        "Hypothesis is used where a law has small inputs, as in the tests of signatures and documents; for files of",
        "many kilobytes it generates slowly. A case here is a seed, a reader and a number:",
        "",
        '    python -m benchmarks.fuzz --case "golden record" 14 --save case.npz',
        "",
    )
