from __future__ import annotations

import pytest

from onward.benchmarking.candidate import Candidate, shortest_paths
from onward.benchmarking.summary import choose_reference


@pytest.mark.parametrize(
    ("targets", "names"),
    [
        (["artifacts/fashion"], ["fashion"]),
        (["artifacts/fashion/", "digits"], ["fashion", "digits"]),
        (["a/fashion", "b/fashion"], ["a/fashion", "b/fashion"]),
        (["/data/a/fashion", "/data/b/fashion", "/data/b/digits"], ["a/fashion", "b/fashion", "digits"]),
        (["before/artifacts/model", "after/artifacts/model"], ["before/…/model", "after/…/model"]),
        (["fashion", "old/fashion"], ["fashion", "old/fashion"]),
        (["x/a/m", "x/b/m", "y/a/m"], ["x/…/m", "b/m", "y/…/m"]),
        (["x/1/m/n", "x/2/m/n", "y/1/m/n"], ["x/…/n", "2/…/n", "y/…/n"]),
        (["x/1/2/n", "x/3/2/n", "y/1/2/n", "y/3/2/n"], ["x/1/2/n", "x/3/2/n", "y/1/2/n", "y/3/2/n"]),
        ([".", "fashion"], [".", "fashion"]),
    ],
)
def test_a_target_is_named_by_the_shortest_path_that_is_no_other_s(targets: list[str], names: list[str]) -> None:
    found = shortest_paths(targets)
    assert [found[target] for target in targets] == names


@pytest.mark.parametrize("named", ["data/b/fashion", "b/fashion", "b/fashion:onnxruntime"])
def test_a_reference_is_named_as_in_tables_or_in_full(named: str) -> None:
    candidates = [Candidate(f"data/{folder}/fashion", "onnxruntime", "cpu", 1) for folder in "ab"]
    assert choose_reference(candidates, named) == candidates[1]
