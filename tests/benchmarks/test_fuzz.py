"""A sample of `make fuzz`: damaged files for every reader; and the campaign itself, with readers that misbehave."""

from __future__ import annotations

import importlib
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("torch")

from benchmarks.fuzz import campaign
from benchmarks.fuzz.campaign import Plan, ReaderOutcomes, read
from benchmarks.fuzz.case import Failure, Result, input_of, run_case, run_file
from benchmarks.fuzz.mutation import mutate
from benchmarks.fuzz.page import page
from benchmarks.fuzz.readers import READERS, Reader
from benchmarks.fuzz.watch import watched

CORPUS = Path(__file__).parent / "fuzz_corpus"
#: Of each reader; those that open a model or PyTorch take longer.
NUM_CASES = 120
SLOW = {"manifest": 40, "golden record": 40, "golden outputs": 30, "ONNX artifact": 30, "benchmark report": 30,
        ".pt2 header": 25, "TorchScript header": 25, "checkpoint": 25, "ONNX metadata": 60, ".pt2 program": 40,
        "TorchScript program": 40}  # fmt: skip

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_answers_damaged_files_in_sentences(reader: str) -> None:
    for at in range(SLOW.get(reader, NUM_CASES)):
        result = run_case(reader, 1, at)
        # memory is for the campaign, which measures it in processes of its own
        assert result.outcome in ("read", "refused", "memory"), f"case {at}: {result}"


@pytest.mark.parametrize("reader", READERS)
def test_a_whole_file_is_read(reader: str) -> None:
    if reader in (".pt2 header", "TorchScript header"):
        pytest.skip("inspect refuses them")
    for data in READERS[reader].seeds()[:1]:
        assert run_file(reader, data).outcome in ("read", "memory")


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*/*")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_files_that_once_failed_are_answered_in_sentences(path: Path) -> None:
    result = run_file(path.parent.name, path.read_bytes())
    assert result.outcome in ("read", "refused"), result


def test_a_number_decides_a_case() -> None:
    for reader in ("manifest", "npz", "image png"):
        files = [input_of(reader, 3, at) for at in range(20)]
        assert files == [input_of(reader, 3, at) for at in range(20)]
        assert len(set(files)) > 15
        assert files != [input_of(reader, 4, at) for at in range(20)]


@pytest.mark.parametrize("data", [b"", b"P", b"PK\x03\x04", b"{", b"[]", b'{"a": [1]}', bytes(range(256))])
def test_anything_can_be_mutated(data: bytes) -> None:
    for seed in range(100):
        assert isinstance(mutate(data, [data, b"other"], random.Random(seed)), bytes)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [(ValueError("a"), "traceback"), (KeyboardInterrupt(), "traceback"), (MemoryError(), "memory"),
     (OSError("a"), "traceback"), (FileNotFoundError(2, "gone", "a"), "refused")],
    ids=repr,
)  # fmt: skip
def test_what_a_reader_raises_is_judged(error: BaseException, outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> str:
        raise error

    monkeypatch.setitem(READERS, "failing", Reader("failing", ".x", lambda: [b"a"], fail))
    assert run_case("failing", 0, 0).outcome == outcome
    monkeypatch.setitem(READERS, "printing", Reader("printing", ".x", lambda: [b"a"], lambda path: "a\x1b[31m"))
    assert run_case("printing", 0, 0).outcome == "escape"


@pytest.mark.parametrize(
    "deed",
    [lambda: Path("deed").touch(), lambda: os.environ.update(DEED="1"), lambda: os.system("true"),
     lambda: importlib.import_module("doer"), lambda: Path("doer.py").write_text("")],
)  # fmt: skip
def test_what_a_program_does_beside_computing_is_an_execution(
    deed: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path) -> str:
        with watched(path.parent / "working"):
            deed()
        return ""

    monkeypatch.delenv("DEED", raising=False)
    monkeypatch.setitem(READERS, "doing", Reader("doing", ".x", lambda: [b"a"], read))
    assert run_case("doing", 0, 0).outcome == "execution"
    os.environ.pop("DEED", None)


def test_a_campaign_survives_hangs_and_deaths_and_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real worker, of a reader whose fourth case ends the process and whose eighth never ends."""
    script = tmp_path / "worker.py"
    script.write_text(
        "import os, sys, time\n"
        "from benchmarks.fuzz import case, worker\n"
        "from pathlib import Path\n"
        "worker.CASES_AT_ONCE = 3\n"
        "worker.warm_up = lambda reader: None\n"
        "def run_case(reader, seed, at):\n"
        "    if at == 4: os.kill(os.getpid(), 9)\n"
        "    if at == 8: time.sleep(60)\n"
        "    return case.Result('traceback', 'here') if at == 5 else case.Result('refused')\n"
        "worker.run_case = run_case\n"
        "reader, seed, out, start, end, lost = sys.argv[1:]\n"
        "worker.work(reader, 0, Path(out), int(start), int(end), frozenset(map(int, filter(None, lost.split(',')))))\n"
    )
    command = campaign.worker_command
    monkeypatch.setattr(campaign, "worker_command", lambda *items: [command()[0], str(script), *map(str, items)])
    monkeypatch.setattr(campaign, "MAX_CASE_S", 1)
    monkeypatch.setenv("PYTHONPATH", f"{campaign.ROOT}:{campaign.ROOT / 'runtime'}:{campaign.ROOT / 'training'}")
    plan = Plan(tmp_path, 6, 0, 1, 0.1)
    campaign.run(["npz"], plan, tell=print)
    assert read(plan, "npz").counts == {"refused": 4, "traceback": 1, "death": 1}
    plan = Plan(tmp_path, 12, 0, 1, 0.1)
    campaign.run(["npz"], plan, tell=print)
    found = read(plan, "npz")
    assert found.counts == {"refused": 9, "traceback": 1, "death": 1, "hang": 1}
    assert sorted((item.at, item.result.outcome) for item in found.failures) == [
        (4, "death"),
        (5, "traceback"),
        (8, "hang"),
    ]


def test_the_page_has_a_row_a_reader_and_lists_failures() -> None:
    found = ReaderOutcomes("npz", failures=[Failure("npz", 7, Result("traceback", "KeyError \x1b"))], peak_mib=99)
    found.counts.update({"read": 2, "refused": 1233, "traceback": 1})
    text = page([found, ReaderOutcomes("idle")], seed=5)
    assert "With seed 5: **1,236 cases, 1 failures**." in text
    assert "| npz | 1,236 | 2 | 1,233 | 1 | 0 | 0 | 0 | 0 | 0 | 99 |" in text
    assert r"- npz, case 7: traceback, `KeyError \x1b`" in text
    assert "idle" not in text
