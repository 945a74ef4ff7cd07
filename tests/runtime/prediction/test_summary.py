from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.prediction import Counts, Failure, Summary

COUNTS = st.builds(Counts, *[st.integers(0, 1000)] * len(fields(Counts)))


@given(COUNTS, COUNTS, COUNTS)
def test_counts_of_parts_add_up_in_any_grouping(one: Counts, two: Counts, three: Counts) -> None:
    assert one + Counts() == one
    assert (one + two) + three == one + (two + three)
    for field in fields(Counts):
        assert getattr(one + two, field.name) == getattr(one, field.name) + getattr(two, field.name)
    assert (one + two).num_failures == one.num_failures + two.num_failures


def test_failures_and_accuracy_follow_from_the_counts() -> None:
    counts = Counts(num_inputs=10, num_predicted=8, num_labelled=4, num_correct=3)
    assert counts.num_failures == 2
    assert counts.accuracy == 0.75
    assert Counts(num_inputs=10, num_predicted=8).accuracy is None


def test_the_json_of_a_summary_keeps_its_keys_and_their_order() -> None:
    summary = Summary(
        counts=Counts(num_inputs=10, num_predicted=8, num_labelled=4, num_correct=3, num_unanswered=1, num_16_bit=5),
        left_alone={".txt": 2},
        num_resumed=6,
        failures=[Failure("x.png", "decode", "not an image")],
        elapsed_s=2.0,
        plan={"batch_size": 8, "streams": 2, "threads": 1},
        backend="onnx (CPU)",
        artifact="onnx",
        precision="float32",
    )
    summary.seconds.infer, summary.seconds.read = 3.0, 1.0
    stages = ("read", "decode", "resize", "infer", "write", "wait")
    expected = {
        "num_inputs": 10,
        "num_predicted": 8,
        "num_failures": 2,
        "num_unreadable": 1,
        "num_unanswered": 1,
        "num_resumed": 6,
        "num_labelled": 4,
        "num_correct": 3,
        "num_16_bit": 5,
        "left_alone": {".txt": 2},
        "failures": [{"input": "x.png", "stage": "decode", "reason": "not an image"}],
        "elapsed_s": 2.0,
        "seconds": dict.fromkeys(stages, 0.0) | {"infer": 3.0, "read": 1.0},
        "is_interrupted": False,
        "was_finished": False,
        "plan": {"batch_size": 8, "streams": 2, "threads": 1},
        "artifact": "onnx",
        "precision": "float32",
        "backend": "onnx (CPU)",
        "placement": None,
        "images_per_s": 2.0,
        "accuracy": 0.75,
        "shares": dict.fromkeys(stages, 0.0) | {"infer": 0.75, "read": 0.25},
    }
    assert summary.to_json() == expected
    assert list(summary.to_json()) == list(expected)
    assert summary.describe_plan() == "batches of 8, 2 inferences at a time, 1 thread each"


def test_an_empty_summary_has_no_throughput_and_no_plan() -> None:
    assert Summary().images_per_s == pytest.approx(0)
    assert Summary().describe_plan() == ""
    assert set(Summary().seconds.shares.values()) == {0.0}
