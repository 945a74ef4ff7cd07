"""`make gpu` and `make gpu-pack`, as far as they go without a card: the run, the page, the parts."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.campaign import run
from benchmarks.gpu.install import install
from benchmarks.gpu.pack import cut, pack_index
from benchmarks.gpu.page import TABLES, fill, write_page
from benchmarks.gpu.results import read_results
from benchmarks.gpu.section import NETWORKS, STAGES, Section, Setting, attempt
from benchmarks.gpu.suite import card_tests
from benchmarks.gpu.timing import rows_of_ways, time_ways
from onward.errors import UsageError
from tests.needs import needs_torch

DOCS = Path(__file__).parents[2] / "docs" / "gpu.md"
MACHINE = {"card": "Card 9000", "driver": "1.2", "num_cores": 16, "torch": "2.11", "onnxruntime": "1.31"}


def results_of(section: str, rows: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    done = {"section": section, "status": "done", "reason": "", "seconds": 1.0, "rows": rows} | more
    return {"device": "cuda", "quick": False, "machine": MACHINE, "sections": [done]}


def written(folder: Path, *results: dict[str, Any]) -> list[Path]:
    paths = [folder / f"{number}.json" for number in range(len(results))]
    for path, item in zip(paths, results, strict=True):
        path.write_text(json.dumps(item))
    return paths


@needs_torch
def test_sections_run_apart_and_what_fails_or_takes_too_long_is_a_line(tmp_path: Path) -> None:
    stages = ((Section("nonesuch", 60), Section("machine", 120)), (Section("machine", 0.01), Section("tf32", 9, False)))
    setting = Setting("cpu", tmp_path / "work", tmp_path / "out", quick=True)
    path = run(setting, limit_s=120, stages=stages)
    found = json.loads(path.read_text())
    missing, machine, left_out, cut_off = found["sections"]
    assert (missing["status"], missing["rows"]) == ("failed", [])
    assert "No module named 'benchmarks.gpu.nonesuch'" in missing["reason"]
    assert (machine["status"], machine["rows"][0]["device"]) == ("done", "cpu")
    assert cut_off["status"] == "cut off"
    assert (left_out["status"], left_out["reason"]) == ("skipped", "needs a card")
    assert found["machine"] == machine["rows"][0]
    assert "nonesuch: failed" in (tmp_path / "out" / "log.txt").read_text()


def test_without_time_a_section_is_left_out(tmp_path: Path) -> None:
    setting = Setting("cpu", tmp_path / "work", tmp_path / "out", quick=True)
    found = json.loads(run(setting, limit_s=0, stages=((Section("machine", 60),),)).read_text())
    assert [item["reason"] for item in found["sections"]] == ["no time was left"]


def test_a_row_that_fails_has_the_reason() -> None:
    assert attempt({"way": "a"}, lambda: {"ms": 1}) == {"way": "a", "ms": 1}
    assert attempt({"way": "a"}, lambda: 1 // 0) == {  # type: ignore[arg-type,return-value]
        "way": "a",
        "error": "integer division or modulo by zero",
    }


def test_ways_take_turns_and_one_that_cannot_run_is_a_row(tmp_path: Path) -> None:
    calls: list[str] = []
    seconds = time_ways({name: lambda name=name: calls.append(name) for name in "ab"}, quick=True)  # type: ignore[misc]
    assert [len(taken) for taken in seconds.values()] == [2, 2]
    assert set(calls) == {"a", "b"}
    ways = {"fast": lambda: lambda: None, "broken": lambda: lambda: 1 // 0}
    setting = Setting("cpu", tmp_path, tmp_path, quick=True)
    broken, fast = rows_of_ways(ways, {"network": "n", "batch": 8}, setting, reference="fast")
    assert (broken["way"], broken["error"]) == ("broken", "integer division or modulo by zero")
    assert (fast["way"], fast["ratio"], fast["batch"]) == ("fast", 1.0, 8)
    assert fast["images_s"] == pytest.approx(8000 / fast["ms"])


def test_every_marker_of_the_page_has_a_table_and_the_tables_name_the_card() -> None:
    base = {"network": "cnn", "batch": 8, "from": "arrays"}
    rows = [
        base | {"way": "onnxruntime", "ms": 0.5, "ratio": 2.0},
        base | {"way": "PyTorch eager", "ms": 1, "ratio": 1},
    ]
    rows.append(base | {"way": "PyTorch compiled", "error": "it broke | badly"})
    page = fill(DOCS.read_text(), results_of("latency:cnn", rows))
    assert "| cnn | 8 | 0.500 | 1.00 | 2.00 |" in page
    assert "*Card 9000, driver 1.2, 16 cores, PyTorch 2.11, onnxruntime 1.31*" in page
    assert "way PyTorch compiled | failed | it broke / badly |" in page
    more = [*rows, rows[2] | {"batch": 32}]
    assert "network cnn, batch 8 and 32, from arrays, way PyTorch compiled | failed" in fill(
        DOCS.read_text(), results_of("latency:cnn", more)
    )
    assert [name for name in TABLES if f"<!-- gpu: {name} -->" not in page] == []
    assert fill(page, results_of("latency:cnn", rows)) == page


def test_a_section_that_was_cut_off_is_listed_and_its_rows_are_kept() -> None:
    row = {"network": "cnn", "batch": 1, "way": "run", "ms": 3.0, "ratio": 1.0}
    results = results_of("binding", [row], status="cut off", reason="ended after 30 s")
    page = fill(DOCS.read_text(), results)
    assert "| binding | cut off | ended after 30 s |" in page
    assert "| cnn | 1 | 3.00 |" in page


@pytest.mark.parametrize("change", [{"device": "cpu"}, {"quick": True}])
def test_a_run_that_tests_the_plumbing_writes_no_page(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="only tests the plumbing"):
        write_page(written(tmp_path, results_of("machine", []) | change), tmp_path / "gpu.md")


@pytest.mark.parametrize(
    ("first", "then", "counts"),
    [
        ("done", "done", "then"),
        ("done", "cut off", "first"),
        ("done", "skipped", "first"),
        ("cut off", "failed", "then"),
        ("cut off", "skipped", "first"),
        ("skipped", "cut off", "then"),
    ],
)
def test_a_later_run_counts_unless_only_the_first_one_finished(
    first: str, then: str, counts: str, tmp_path: Path
) -> None:
    earlier = results_of("tf32", [{"from": "first"}], status=first)
    later = results_of("tf32", [{"from": "then"}], status=then) | {"machine": {}}
    later["sections"].append(results_of("binding", [])["sections"][0])
    found = read_results(written(tmp_path, earlier, later))
    assert found["machine"] == MACHINE
    assert [item["section"] for item in found["sections"]] == ["tf32", "binding"]
    assert found["sections"][0]["rows"] == [{"from": counts}]


def test_results_of_two_cards_are_refused(tmp_path: Path) -> None:
    other = results_of("tf32", []) | {"machine": MACHINE | {"card": "Card 1"}}
    with pytest.raises(UsageError, match=r"1.json has card Card 1, and the files before it have Card 9000"):
        read_results(written(tmp_path, results_of("machine", []), other))


def test_the_sections_end_in_time_and_those_that_time_something_run_alone() -> None:
    alone = [stage for stage in STAGES if len(stage) == 1]
    timed = {section.name.partition(":")[0] for stage in alone for section in stage}
    assert timed >= {"parity", "latency", "binding", "tf32", "cuda_graphs", "precision", "training", "jpegs"}
    assert {section.name for stage in STAGES for section in stage} >= {f"latency:{name}" for name in NETWORKS}


def test_the_card_tests_are_found() -> None:
    found = card_tests()
    assert "tests/runtime/backends/test_providers.py::test_a_bundle_verifies_on_cuda" in found
    assert "tests/training/test_loop.py::test_training_on_a_gpu_gives_a_checkpoint_for_the_processor" in found
    assert not any("embedding" in name for name in found)


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """A pack of one archive in three parts."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "module.py").write_bytes(bytes(range(256)) * 40)
    with tarfile.open(tmp_path / "a.tar.xz", "w:xz", preset=0) as archive:
        archive.add(tmp_path / "site" / "module.py", "module.py")
    folder = tmp_path / "parts"
    folder.mkdir()
    size = (tmp_path / "a.tar.xz").stat().st_size
    made = list(cut(tmp_path / "a.tar.xz", folder, first=1, max_part_bytes=size // 3 + 1))
    assert [part.name for part in made] == ["part-01", "part-02", "part-03"]
    pack_index(folder, {"a.tar.xz": made})
    return folder


def test_parts_are_joined_and_unpacked(parts: Path, tmp_path: Path) -> None:
    install(parts, tmp_path / "target")
    assert (tmp_path / "target" / "module.py").read_bytes() == bytes(range(256)) * 40


def test_a_missing_and_a_damaged_part_are_named_and_nothing_is_unpacked(parts: Path, tmp_path: Path) -> None:
    (parts / "part-01").unlink()
    (parts / "part-03").write_bytes(b"other")
    with pytest.raises(SystemExit, match=r"part-01 is missing; .*part-03 is damaged"):
        install(parts, tmp_path / "target")
    assert not (tmp_path / "target").exists()
    (parts / "pack.json").unlink()
    with pytest.raises(SystemExit, match=r"pack.json is missing: carry it with every part"):
        install(parts, tmp_path / "target")
