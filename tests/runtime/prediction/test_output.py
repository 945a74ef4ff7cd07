from __future__ import annotations

import hashlib
import inspect
import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onward.errors import OutputError, UsageError
from onward.prediction.journal import Position, read_journal
from onward.prediction.output import FileOutput, errors_path, open_output
from onward.prediction.summary import Counts
from onward.sinks import Column, Columns, open_sink

LAW = settings(max_examples=40, deadline=None)
COLUMNS = Columns(tuple(Column(name, "int32") for name in ("label", "index", "probability")), Column("a", "int32"))
REQUEST = {"inputs": ["x"], "top_k": 1}
HEADER = b"input,label,index,probability\n"
ROOT = Path(__file__).parents[3]


def hidden(folder: Path) -> list[str]:
    """The hidden files, but for the record of a finished run."""
    return sorted(path.name for path in folder.iterdir() if path.name[0] == "." and path.suffix != ".done")


def opened(out: Path, resume: bool | None = None, request: dict[str, object] | None = None):  # type: ignore[no-untyped-def]
    return open_output(out, open_sink(out, COLUMNS), REQUEST if request is None else request, resume)


def at(count: int) -> Position:
    return Position(Counts(num_inputs=count, num_predicted=count), digest=str(count))


def go(output: FileOutput, upto: int, commit_at: frozenset[int] = frozenset(), *, fail: int = -1) -> None:
    """Append numbered rows from where the output is; every third input has an error instead of a row."""
    start = output.committed.position.counts.num_inputs if output.committed else 0
    for number in range(start, upto):
        if number == fail:
            raise ZeroDivisionError
        row = f"{number},a,0,1.0\n".encode()
        output.append(b"" if number % 3 == 2 else row, b'{"input": "%d"}\n' % number if number % 3 == 2 else b"")
        if number + 1 in commit_at:
            output.commit(at(number + 1))


def expected(count: int) -> tuple[bytes, bytes]:
    rows = b"".join(f"{number},a,0,1.0\n".encode() for number in range(count) if number % 3 != 2)
    errors = b"".join(b'{"input": "%d"}\n' % number for number in range(count) if number % 3 == 2)
    return HEADER + rows, errors


def check(out: Path, count: int) -> None:
    rows, errors = expected(count)
    assert out.read_bytes() == rows
    assert (errors_path(out).read_bytes() if errors else b"") == errors
    assert errors_path(out).exists() == bool(errors)
    assert hidden(out.parent) == []


@LAW
@given(st.integers(0, 20), st.frozensets(st.integers(1, 20)), st.lists(st.integers(0, 20), max_size=4))
def test_a_resumed_run_gives_the_bytes_of_an_uninterrupted_one(
    count: int, commit_at: frozenset[int], cuts: list[int]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.csv"
        for cut in cuts:
            try:
                with opened(out, resume=True) as output:
                    go(output, count, commit_at, fail=cut)
                    break
            except ZeroDivisionError:
                pass
        with opened(out, resume=True) as output:
            go(output, count, commit_at)
            output.finish(at(count))
        check(out, count)


def test_a_failed_run_without_a_commit_leaves_nothing(tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    out.write_text("earlier")
    with pytest.raises(UsageError, match=r"rows\.csv exists: --overwrite replaces it, another --out keeps it"):
        opened(out).__enter__()
    with pytest.raises(ZeroDivisionError), opened(out, resume=False) as output:
        go(output, 9, fail=5)
    assert out.read_text() == "earlier"
    assert hidden(tmp_path) == []


def test_a_failed_run_keeps_its_commits_and_the_existing_file(tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    out.write_text("earlier")
    with pytest.raises(ZeroDivisionError), opened(out, resume=False) as output:
        go(output, 9, frozenset({4}), fail=6)
    assert out.read_text() == "earlier"
    with pytest.raises(UsageError, match=r"4 inputs: continue it with --resume, or start over with --no-resume"):
        opened(out).__enter__()
    with opened(out, resume=True) as output:
        assert output.committed is not None
        assert output.committed.position == at(4)
        go(output, 9)
        output.finish(at(9))
    check(out, 9)


def test_no_resume_starts_over(tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    with pytest.raises(ZeroDivisionError), opened(out) as output:
        go(output, 9, frozenset({4}), fail=6)
    with opened(out, resume=False) as output:
        assert output.committed is None
        go(output, 3)
        output.finish(at(3))
    check(out, 3)


def test_resume_without_an_unfinished_run_starts(tmp_path: Path) -> None:
    with opened(tmp_path / "rows.csv", resume=True) as output:
        go(output, 3)
        output.finish(at(3))
    check(tmp_path / "rows.csv", 3)


def test_a_different_request_is_refused_and_both_are_named(tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    with pytest.raises(ZeroDivisionError), opened(out) as output:
        go(output, 9, frozenset({4}), fail=6)
    with pytest.raises(UsageError, match="has top_k 1, but 3 is asked for"):
        opened(out, True, REQUEST | {"top_k": 3}).__enter__()


def test_the_errors_of_an_earlier_run_are_removed_if_this_one_has_none(tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    for count in (9, 2):
        with opened(out, resume=False) as output:
            go(output, count)
            output.finish(at(count))
        check(out, count)


def test_a_second_run_at_the_same_output_is_refused(tmp_path: Path) -> None:
    with opened(tmp_path / "rows.csv") as output:
        with pytest.raises(OutputError, match="another run is writing"):
            opened(tmp_path / "rows.csv", resume=False).__enter__()
        go(output, 5)
        output.finish(at(5))
    check(tmp_path / "rows.csv", 5)


@pytest.mark.parametrize("lost", [1, 20, 60])
def test_missing_staged_rows_send_the_run_back_to_an_earlier_commit(lost: int, tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    with pytest.raises(ZeroDivisionError), opened(out) as output:
        go(output, 20, frozenset(range(1, 20)), fail=15)
    part = tmp_path / ".rows.csv.part"
    os.truncate(part, part.stat().st_size - lost)
    with opened(out, resume=True) as output:
        assert output.committed is not None
        assert output.committed.position.counts.num_inputs < 15
        go(output, 20)
        output.finish(at(20))
    check(out, 20)


@pytest.mark.parametrize("length", range(0, 120, 7))
def test_a_journal_cut_short_anywhere_loses_only_the_incomplete_line(length: int, tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    with pytest.raises(ZeroDivisionError), opened(out) as output:
        go(output, 9, frozenset({3, 6}), fail=8)
    journal = tmp_path / ".rows.csv.journal"
    os.truncate(journal, max(0, journal.stat().st_size - length))
    num_lines = journal.read_bytes().count(b"\n")
    with opened(out, resume=True) as output:
        assert [commit.position for commit in output.commits] == [at(3), at(6)][: max(0, num_lines - 1)]
        go(output, 9)
        output.finish(at(9))
    check(out, 9)


@pytest.mark.parametrize("torn", [b"", b"{", b'{"position": {', b"\0" * 40, b"[]", b'{"position": 7}', b"{}"])
@pytest.mark.parametrize("line", [1, 2, 3])
def test_a_damaged_line_of_the_journal_loses_only_the_commits_from_there_on(
    line: int, torn: bytes, tmp_path: Path
) -> None:
    out, journal = tmp_path / "rows.csv", tmp_path / ".rows.csv.journal"
    with pytest.raises(ZeroDivisionError), opened(out) as output:
        go(output, 9, frozenset({2, 4, 6}), fail=8)
    lines = journal.read_bytes().split(b"\n")
    lines[line] = torn
    journal.write_bytes(b"\n".join(lines))
    found = read_journal(journal)
    assert found is not None
    assert found[0] == REQUEST
    assert [commit.position for commit in found[1]] == [at(2), at(4), at(6)][: line - 1]
    with opened(out, resume=True) as output:
        assert [commit.position for commit in output.commits] == [at(2), at(4), at(6)][: line - 1]
        go(output, 9)
        output.finish(at(9))
    check(out, 9)


@LAW
@given(st.data())
def test_a_journal_or_rows_that_were_edited_never_lead_to_other_bytes(data: st.DataObject) -> None:
    """A digit, or any byte, of the journal or of the staged files is another one."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "rows.csv"
        with pytest.raises(ZeroDivisionError), opened(out) as output:
            go(output, 19, frozenset({2, 4, 6, 9, 15}), fail=18)
        name = data.draw(st.sampled_from([".rows.csv.journal", ".rows.csv.journal", ".rows.csv.part"]))
        edited = bytearray((Path(folder) / name).read_bytes())
        digits = [at for at, byte in enumerate(edited) if 48 <= byte < 58]
        at_byte = data.draw(st.sampled_from(digits) | st.integers(0, len(edited) - 1))
        edited[at_byte] = data.draw(st.sampled_from(b"0123456789") | st.integers(0, 255))
        (Path(folder) / name).write_bytes(edited)
        try:
            with opened(out, resume=True) as output:
                go(output, 19)
                output.finish(at(19))
        except UsageError:
            return
        check(out, 19)


CRASHING = """
import os, signal, sys
from pathlib import Path
from onward.prediction.output import open_output
from onward.prediction.journal import Position
from onward.prediction.summary import Counts
from onward.sinks import Column, Columns, open_sink
COLUMNS = Columns(tuple(Column(name, "int32") for name in ("label", "index", "probability")), Column("a", "int32"))
REQUEST = {"inputs": ["x"], "top_k": 1}
steps, out = int(sys.argv[1]), Path(sys.argv[2])
EVENTS = {"os.rename", "os.remove", "os.truncate", "fcntl.flock", "open"}
def count(event, arguments):
    global steps
    if event in EVENTS and (event != "open" or str(arguments[0]).startswith(str(out.parent))):
        steps -= 1
        if steps == 0:
            os.kill(os.getpid(), signal.SIGKILL)
with opened(out, resume=True) as output:
    sys.addaudithook(count)
    if not output.is_finished:
        go(output, 9, frozenset({3, 5, 8}))
        output.finish(at(9))
print("whole", steps)
"""


def test_a_run_killed_at_any_file_operation_resumes_to_the_same_bytes(tmp_path: Path) -> None:
    """SIGKILL before each rename, removal and opening, and once more while the run is resumed."""
    functions = "".join(map(inspect.getsource, (opened, at, go)))
    script = "from __future__ import annotations\n" + functions + CRASHING
    killed = 0
    for steps in range(1, 30):
        out = tmp_path / str(steps) / "rows.csv"
        results = []
        for _ in range(2):
            command = [sys.executable, "-c", script, str(steps), str(out)]
            results.append(subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False))
            if out.exists():  # rows never appear before the errors that belong to them
                assert errors_path(out).read_bytes() == expected(9)[1]
        assert {result.returncode for result in results} <= {0, -signal.SIGKILL}, results[-1].stderr
        killed += sum(result.returncode == -signal.SIGKILL for result in results)
        with opened(out, resume=True) as output:
            if not output.is_finished:
                go(output, 9)
                output.finish(at(9))
        check(out, 9)
        if results[0].returncode == 0:
            break
    assert killed > 5


def test_the_json_of_the_journal(tmp_path: Path) -> None:
    out = tmp_path / "rows.csv"
    with pytest.raises(ZeroDivisionError), opened(out) as output:
        go(output, 9, frozenset({3, 6}), fail=8)
    lines = [json.loads(line) for line in (tmp_path / ".rows.csv.journal").read_text().splitlines()]
    assert lines[0].pop("check") != lines[1].pop("check")
    assert lines[0] == {"format": 2, "request": REQUEST}
    counts = asdict(Counts(num_inputs=3, num_predicted=3))
    rows, errors = expected(3)
    digests = [hashlib.blake2b(data, digest_size=16).hexdigest() for data in (rows.removeprefix(HEADER), errors)]
    assert lines[1] == {
        "position": {**counts, "digest": "3", "plan": {}},
        "rows_bytes": len(rows),
        "errors_bytes": len(errors),
        "rows_digest": digests[0],
        "errors_digest": digests[1],
        "inputs_bytes": 0,
        "inputs_digest": hashlib.blake2b(digest_size=16).hexdigest(),
        "whole": None,
        "whole_bytes": None,
    }
    assert [line["position"]["num_inputs"] for line in lines[1:]] == [3, 6]
    found = read_journal(tmp_path / ".rows.csv.journal")
    assert found is not None
    assert found[1][-1].position == at(6)
