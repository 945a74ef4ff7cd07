"""Classification: what a classifier means by logits and probabilities."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from onward.errors import SignatureError, UsageError
from onward.parity import MAX_RELATIVE_ERROR, Noise, compare, measure_noise
from onward.signature import Input, Output, TensorSignature
from onward.sources.source import ClassName
from onward.tasks import task_of
from onward.tasks.classification import Classification, LabelColumn, noise_of_probabilities, rank
from onward.tasks.task import NO_TARGET

LAW = settings(max_examples=60, deadline=None)
SIGNATURE = TensorSignature((Input("x", "float32", (2,)),), ("a", "b", "c", "0"))
TASK = Classification(SIGNATURE)
LOGITS = np.float32([[0, 3, 1, 0], [2, 2, 0, 0], [0, 0, 0, 5]])
PROBABILITIES = np.float32([[0.1, 0.6, 0.2, 0.1], [0.4, 0.4, 0.1, 0.1], [0.1, 0.1, 0.1, 0.7]])
OUTPUTS = {"logits": LOGITS, "probabilities": PROBABILITIES}
TABLE = arrays(np.float64, (3, 4), elements=st.floats(-8, 8, width=32))
#: Errors of the size of float32's own, exact in it next to numbers of up to 8.
ERRORS = arrays(np.float64, (3, 4), elements=st.integers(-64, 64).map(lambda ulps: ulps * 2.0**-20))


def test_the_task_of_a_classifier_is_classification() -> None:
    assert isinstance(task_of(SIGNATURE), Classification)


def test_outputs_are_told_apart_by_meaning_not_by_name_or_place() -> None:
    outputs = (Output("p", "float32", ("classes",), "probabilities"), Output("z", "float32", ("classes",), "logits"))
    task = Classification(TensorSignature(SIGNATURE.inputs, SIGNATURE.labels, outputs))
    found = task.predictions({"z": LOGITS, "p": PROBABILITIES})
    np.testing.assert_array_equal(found.logits, LOGITS)
    np.testing.assert_array_equal(found.probabilities, PROBABILITIES)


def test_outputs_of_another_meaning_are_refused() -> None:
    outputs = (Output("depth", "float32", (4, 4), "depth"),)
    with pytest.raises(SignatureError, match="gives logits and probabilities"):
        task_of(TensorSignature(SIGNATURE.inputs, SIGNATURE.labels, outputs))


def test_predictions_name_the_most_probable_class_and_of_equal_ones_the_first() -> None:
    found = TASK.predictions(OUTPUTS)
    assert (found.labels, found.indices.tolist(), len(found)) == (("b", "a", "0"), [1, 0, 3], 3)


def test_columns_are_label_index_and_probability_by_place() -> None:
    columns = TASK.columns({"top_k": 2})
    names = ["label", "index", "probability", "label_2", "index_2", "probability_2"]
    assert [column.name for column in columns.columns] == names
    values = TASK.values(OUTPUTS, {"top_k": 2})
    assert [values[name].tolist() for name in ("label", "index", "label_2")] == [[1, 0, 3], [1, 0, 3], [2, 1, 0]]
    np.testing.assert_array_equal(values["probability_2"], np.float32([0.2, 0.4, 0.1]))
    assert columns.array.name == "probabilities"
    assert TASK.columns({"logits": True}).array.name == "logits"


@pytest.mark.parametrize("top_k", [0, 5, -1])
def test_a_top_k_out_of_range_is_refused(top_k: int) -> None:
    with pytest.raises(UsageError, match="expected 1 to 4, the number of classes"):
        TASK.columns({"top_k": top_k})


def test_a_label_may_be_given_as_its_index_unless_another_label_reads_so() -> None:
    column = LabelColumn(("a", "b", "c", "3"))
    labels = ["c", "1", "01", "3", None, "None", "d", "4"]
    none = NO_TARGET
    assert [column.index_of(label, None) for label in labels] == [2, 1, 1, 3, none, none, none, none]
    assert TASK.count_correct(OUTPUTS, TASK.targets(["b", "b", None])) == 1


TWELVE = LabelColumn(tuple(str(number) for number in range(1, 13)))


def test_a_number_that_could_be_a_name_or_an_index_must_be_said() -> None:
    for label in ("0", "1", "01", "12", "13"):
        with pytest.raises(UsageError, match=r"could be the name of a class or its index.*--labels-are names, or"):
            TWELVE.index_of(label, None)
    assert [TWELVE.index_of(label, "names") for label in ("0", "1", "01", "12")] == [NO_TARGET, 0, 0, 11]
    assert [TWELVE.index_of(label, "indices") for label in ("0", "1", "11", "12")] == [0, 1, 11, NO_TARGET]
    assert TWELVE.index_of("cat", None) == NO_TARGET


def test_the_label_of_a_folder_is_a_name() -> None:
    assert [TWELVE.index_of(ClassName(label), None) for label in ("1", "12", "0")] == [0, 11, NO_TARGET]
    assert LabelColumn(("a", "b")).index_of(ClassName("1"), None) == 1


def test_zeros_before_a_name_are_lost_in_a_column_of_numbers() -> None:
    column = LabelColumn(("01", "02", "10"))
    assert [column.index_of(label, "names") for label in ("1", "02", "10")] == [0, 1, 2]


def test_no_outputs_have_the_width_of_all_classes() -> None:
    assert {name: array.shape for name, array in TASK.no_outputs().items()} == {
        "logits": (0, 4),
        "probabilities": (0, 4),
    }


def test_agreement_is_the_share_of_samples_with_the_same_largest_output() -> None:
    reference, noise = np.eye(4), Noise(1e-6, 3e-7, 1.0)
    for found, share in ((np.eye(4), 1.0), (np.eye(4)[[0, 1, 2, 0]], 0.75)):
        row = compare("logits", "random", [found], reference, np.eye(4, dtype=np.float32), noise, TASK)
        assert row.agreement == row.to_json()["top1_agreement"] == share


@LAW
@given(TABLE, ERRORS, st.floats(0, 1e-3))
def test_probabilities_have_a_floor_of_their_own_or_what_the_logits_error_makes_of_them(
    logits: NDArray[np.float64], errors: NDArray[np.float64], floor_of_logits: float
) -> None:
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    measured = measure_noise(probabilities, [probabilities + errors * 1e-2])
    of_logits = Noise(floor_of_logits, floor_of_logits / 3, 8.0)
    noise = TASK.noise({"logits": logits, "probabilities": probabilities}, {
        "logits": of_logits, "probabilities": measured,
    })  # fmt: skip
    steepest = (probabilities * (1 - probabilities)).max()
    by_logits = min(steepest * floor_of_logits, MAX_RELATIVE_ERROR * measured.scale)
    assert noise["logits"] is of_logits
    assert noise["probabilities"] == Noise(max(measured.floor, by_logits), measured.rms, measured.scale)
    assert noise["probabilities"].is_ill_conditioned == measured.is_ill_conditioned


def test_a_lucky_floor_of_saturated_probabilities_is_lifted() -> None:
    # one image between two classes: an error of 1e-5 in a logit moves its probability by 2.5e-6
    probabilities = np.array([[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]])
    lucky = measure_noise(probabilities, [probabilities])
    noise = noise_of_probabilities(lucky, probabilities, Noise(floor=1e-5, rms=3e-6, scale=30.0))
    assert lucky.floor < 1e-6
    assert noise.floor == pytest.approx(2.5e-6)


@LAW
@given(arrays(np.float32, (3, 5), elements=st.sampled_from([0.0, 0.25, 0.5])), st.integers(1, 5))
def test_rank_is_largest_first_and_ties_go_by_index(table: NDArray[np.float32], top_k: int) -> None:
    expected = [sorted(range(5), key=lambda index: (-line[index], index))[:top_k] for line in table.tolist()]
    assert rank(table, top_k).tolist() == expected
