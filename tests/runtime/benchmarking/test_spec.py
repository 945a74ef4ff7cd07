from __future__ import annotations

import pytest

from onward.benchmarking.spec import BenchOptions, Selection
from onward.errors import ProviderError, UsageError


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"backends": ["tflite"]}, "unknown backend 'tflite': expected torch, "),
        ({"backends": []}, "--backends is empty"),
        ({"threads": (-1,)}, "--threads is -1: expected 1 or more"),
    ],
)
def test_an_invalid_selection_is_an_error(selection: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Selection(**selection)  # type: ignore[arg-type]


def test_an_unknown_provider_is_an_error() -> None:
    with pytest.raises(ProviderError, match="gpu"):
        Selection(providers=["gpu"])


@pytest.mark.parametrize(
    "change", [{"batch_sizes": ()}, {"batch_sizes": (0,)}, {"num_rounds": 0}, {"num_process_runs": 0}]
)
def test_options_below_one_are_an_error(change: dict[str, object]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        BenchOptions(**change)  # type: ignore[arg-type]


def test_batch_sizes_are_sorted() -> None:
    assert BenchOptions(batch_sizes=(32, 1, 8, 1)).batch_sizes == (1, 8, 32)


def test_what_is_named_replaces_a_quick_option() -> None:
    quick, named = BenchOptions.quick(), BenchOptions.quick(num_rounds=30, batch_sizes=[8])
    assert (quick.batch_sizes, quick.num_process_runs, quick.num_rounds) == ((1, 32), 3, 9)
    assert (named.batch_sizes, named.num_process_runs, named.num_rounds) == ((8,), 3, 30)
    assert quick.sample_s == BenchOptions().sample_s
