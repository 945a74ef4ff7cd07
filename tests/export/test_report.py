"""parity.html: the verdict first, the results behind it right, nobody's pictures in it, and no network needed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from networks import RGB, SIGNATURE, Attention, OnlyFloat32, Plain, Residual
from numpy.typing import NDArray

import onward_export.publish
from onward.bundle import Bundle
from onward.bundle.golden import GoldenRecord
from onward.errors import ParityFailure
from onward.parity import CONSTANT, Noise, batchings, measure_noise, replay
from onward.report.page import png_data_uri
from onward.signature import Input, TensorSignature
from onward_export.gate import GateResult
from onward_export.model_to_export import ModelToExport
from onward_export.options import ExportOptions
from onward_export.publish import publish
from onward_export.report import write_parity_page
from onward_export.report.agreement import ClassAgreement, class_agreements
from onward_export.report.method import preconditions
from onward_export.report.noise_ratios import make_histogram
from onward_export.report.results import ParityResults
from onward_export.report.worst_samples import worst_samples
from onward_export.weights.account import StoredValue, WeightCheck

PICTURE = 'src="data:image/png;base64,'
MODEL = TensorSignature((Input("x", "float32", (2,)),), ("cat", "dog", "horse"))
ByKind = Mapping[str, NDArray[np.float64]]


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def make_record(logits: ByKind, inputs: Mapping[str, NDArray[np.generic]] | None = None) -> GoldenRecord:
    """A record whose reference is given, and whose PyTorch rounds it to float32."""
    images = {kind: np.zeros((len(array), 4, 4, 1), np.uint8) for kind, array in logits.items()}
    reference = {kind: {"logits": array, "probabilities": softmax(array)} for kind, array in logits.items()}
    eager = {kind: {name: array.astype(np.float32) for name, array in of.items()} for kind, of in reference.items()}
    noise = {
        kind: {name: measure_noise(array, [eager[kind][name]]) for name, array in of.items()}
        for kind, of in reference.items()
    }
    return GoldenRecord(inputs or images, reference, eager, noise)


def make_result(record: GoldenRecord, logits: ByKind, artifact: str = "onnx", **change: object) -> GateResult:
    """An artifact that gives these logits, at every batch size."""
    outputs = {
        kind: {"logits": array.astype(np.float32), "probabilities": softmax(array).astype(np.float32)}
        for kind, array in logits.items()
    }
    replayed = {kind: [given] * len(batchings(len(logits[kind]), kind)) for kind, given in outputs.items()}
    made = GateResult(
        artifact=artifact,
        verdict=record.judge_replay(artifact, replayed),
        weights=WeightCheck(tuple(StoredValue(name, "equal") for name in ("a", "b", "c"))),
        outputs=outputs,
        replayed=replayed,
        file=f"model.{artifact}",
        size_bytes=1234,
        opset=20,
    )
    return replace(made, **change)  # type: ignore[arg-type]


def make_results(given: ByKind, reference: ByKind, **options: object) -> ParityResults:
    record = make_record(reference)
    return ParityResults([make_result(record, given)], record, MODEL, **options)  # type: ignore[arg-type]


@pytest.fixture
def logits() -> dict[str, NDArray[np.float64]]:
    generator = np.random.default_rng(0)
    return {kind: generator.normal(size=(20, 3)) for kind in ("real", "random")}


def render(tmp_path: Path, results: ParityResults) -> str:
    path = tmp_path / "parity.html"
    write_parity_page(
        path,
        "parity of it",
        results.artifacts,
        record=results.record,
        signature=results.signature,
        num_shown=results.num_shown,
    )
    return path.read_text(encoding="utf-8")


def first_lines(document: str) -> tuple[str, str]:
    found = re.search(r"<main><h1[^>]*>(.*?)</h1>\n<p class=\"lead\">(.*?)</p>", document)
    assert found is not None
    return found[1], found[2]


def test_the_first_line_of_a_bundle_s_page_is_that_it_passed(shared_bundle: Bundle) -> None:
    heading, lead = first_lines((shared_bundle.path / "parity.html").read_text(encoding="utf-8"))
    assert heading == "Passed: parity of cnn"
    worst = max(artifact.noise_ratio for artifact in shared_bundle.artifacts)
    assert f"its largest error is {worst:.2f} times" in lead


def test_the_first_line_of_a_refusal_names_the_file_and_the_reason(tmp_path: Path, logits) -> None:
    wrong = {**logits, "real": logits["real"] + 1e-3}
    heading, lead = first_lines(render(tmp_path, make_results(wrong, logits)))
    assert heading == "Failed: parity of it"
    assert re.search(r"model\.onnx is up to [\d,]+ times as far .* \((logits|probabilities) of real samples\)", lead)
    assert "Nothing was published" in lead


def test_a_refusal_for_a_weight_alone_does_not_speak_of_errors(tmp_path: Path, logits) -> None:
    record = make_record(logits)
    weights = WeightCheck(
        (
            StoredValue("stem.weight", "equal"),
            StoredValue("stem.bias", "equal"),
            StoredValue("head.weight", "unexplained", "head.weight: 1 of 9 values differ"),
        )
    )
    results = ParityResults([make_result(record, logits, weights=weights)], record, MODEL)
    document = render(tmp_path, results)
    _, lead = first_lines(document)
    assert "model.onnx holds 1 unexplained tensor" in lead
    assert "times" not in lead
    assert "onnx: head.weight: 1 of 9 values differ." in document


def test_an_artifact_that_gives_nan_is_refused_on_a_page_that_can_be_drawn(tmp_path: Path, logits) -> None:
    wrong = {kind: array.copy() for kind, array in logits.items()}
    wrong["random"][7, 1] = np.nan
    results = make_results(wrong, logits)
    heading, _ = first_lines(render(tmp_path, results))
    assert heading.startswith("Failed")
    assert worst_samples(results)[0].name == "random sample 7"


def test_a_constant_image_that_fails_is_among_the_worst_and_one_that_passes_is_not(logits) -> None:
    reference = {**logits, CONSTANT: logits["real"][:5]}
    passing = make_results({**reference, CONSTANT: reference[CONSTANT] + 2e-5}, reference)
    failing = make_results({**reference, CONSTANT: reference[CONSTANT] + 1e-2}, reference)
    assert passing.passed
    assert CONSTANT not in {sample.kind for sample in worst_samples(passing)}
    assert {sample.kind for sample in worst_samples(failing)[:4]} == {CONSTANT}


def test_every_value_is_in_one_bin_of_the_histogram_whatever_it_is() -> None:
    values = np.array([0, 1e-9, 0.5, 0.5, 1, 2.9, 41, 1e12, np.inf, np.nan])
    made = make_histogram({"onnx": values, "PyTorch": values[:5]})
    assert sum(made.counts["onnx"]) == 10
    assert sum(made.counts["PyTorch"]) == 5
    assert (made.counts["onnx"][0], made.counts["onnx"][-1]) == (2, 3)
    middle = next(place for place, edge in enumerate(made.edges) if edge > 0.5) - 1
    assert made.counts["onnx"][middle] == 2


def test_the_page_s_histograms_hold_every_value_of_every_sample(tmp_path: Path, logits) -> None:
    document = render(tmp_path, make_results(logits, logits))
    bins = re.findall(r"PyTorch (\d+) of 120; onnx (\d+) of 240", document)  # 40 samples, 3 classes, 2 batchings
    assert sum(int(ours) for ours, _ in bins) == 120
    assert sum(int(theirs) for _, theirs in bins) == 240


def test_an_output_besides_the_logits_has_its_histogram_where_it_failed(tmp_path: Path, logits) -> None:
    record = make_record(logits)
    sound = make_result(record, logits)
    outputs = {
        kind: [{**given, "probabilities": given["probabilities"] + 0.1} for given in groupings]
        for kind, groupings in sound.replayed.items()
    }
    faulty = replace(sound, replayed=outputs, verdict=record.judge_replay("onnx", outputs))
    assert "onnx: 240 probabilities" in render(tmp_path, ParityResults([faulty], record, MODEL))
    assert "onnx: 240 probabilities" not in render(tmp_path, ParityResults([sound], record, MODEL))


def test_the_worst_samples_are_those_with_the_largest_errors_over_the_floor(logits) -> None:
    wrong = {kind: array.copy() for kind, array in logits.items()}
    planted = {("real", 3): 1e-2, ("random", 11): 5e-2, ("random", 0): 2e-2}
    for (kind, index), by in planted.items():
        wrong[kind][index, 0] += by
    record = make_record(logits)
    first = worst_samples(ParityResults([make_result(record, wrong)], record, MODEL))
    assert {(sample.kind, sample.index) for sample in first[:3]} == set(planted)
    assert [sample.noise_ratio for sample in first] == sorted((s.noise_ratio for s in first), reverse=True)
    assert len({sample.name for sample in first}) == len(first) == 8


def test_real_samples_are_shown_beside_worse_random_ones_and_the_long_table_is_folded(tmp_path: Path, logits) -> None:
    real, random = logits["real"], logits["random"]
    passing = make_results({"real": real + 1e-6, "random": random + 2e-6}, logits)
    failing = make_results({"real": real + 1e-2, "random": random + 2e-2}, logits)
    for results in (passing, failing):
        assert [sample.kind for sample in worst_samples(results)] == 4 * ["random"] + 4 * ["real"]
    assert (passing.passed, failing.passed) == (True, False)
    assert "<details><summary>4 comparisons</summary>" in render(tmp_path, passing)
    assert "comparisons</summary>" not in render(tmp_path, failing)


def test_the_worst_sample_is_the_verdict_s_worst_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[ParityResults] = []

    def write_and_keep(path: Path, title: str, results: list[GateResult], **named: Any) -> None:
        kept.append(ParityResults(results, named["record"], named["signature"]))
        write_parity_page(path, title, results, **named)

    monkeypatch.setattr("onward_export.publish.write_parity_page", write_and_keep)
    bundle = publish(
        ModelToExport(Attention(), SIGNATURE), tmp_path / "attention", options=ExportOptions(formats=("onnx", "pt2"))
    )
    worst = worst_samples(kept[0])[0]
    assert worst.noise_ratio == pytest.approx(max(artifact.noise_ratio for artifact in bundle.artifacts))
    rows = [row for item in kept[0].artifacts for row in item.verdict.comparisons]
    assert worst.error == pytest.approx(max(rows, key=lambda row: (row.kind != CONSTANT, row.noise_ratio)).error)


def test_a_worst_sample_says_at_which_batch_size_and_what_was_given(logits) -> None:
    record = make_record(logits)
    sound = make_result(record, logits)
    place = next(place for place, sizes in enumerate(batchings(20)) if 7 in sizes)
    swapped = {name: array.copy() for name, array in sound.replayed["real"][place].items()}
    for array in swapped.values():
        array[5] = array[5][[1, 2, 0]]
    groupings = list(sound.replayed["real"])
    groupings[place] = swapped
    faulty = replace(sound, replayed={**sound.replayed, "real": groupings})
    worst = worst_samples(ParityResults([faulty], record, MODEL))[0]
    assert (worst.kind, worst.index, worst.batch_size) == ("real", 5, 7)
    probabilities = record.reference["real"]["probabilities"][5]
    label, other = (MODEL.labels[int(array.argmax())] for array in (probabilities, probabilities[[1, 2, 0]]))
    assert worst.expected == f"{label} ({probabilities.max():.1%})"
    assert worst.given == f"{other} ({probabilities.max():.1%})"
    assert label != other


@pytest.fixture
def private() -> NDArray[np.uint8]:
    """Somebody's pictures."""
    return np.random.default_rng(5).integers(0, 256, (64, 12, 10, 3), np.uint8)


def test_somebody_s_pictures_do_not_travel_in_the_page(tmp_path: Path, private) -> None:
    bundle = publish(
        ModelToExport(Residual(), RGB, private), tmp_path / "private", options=ExportOptions(formats=("onnx",))
    )
    document = (bundle.path / "parity.html").read_text(encoding="utf-8")
    assert document.count("<b>real sample") == document.count("not shown: not stored in the bundle") >= 1
    assert document.count("<b>random sample") == document.count(PICTURE) >= 1
    assert not any(png_data_uri(image) in document for image in private)


def test_the_page_of_a_refusal_stays_and_shows_them(tmp_path: Path, private, monkeypatch: pytest.MonkeyPatch) -> None:
    write = onward_export.publish.write_onnx

    def write_with_a_fault(program: object, path: Path, *arguments: object) -> None:
        write(program, path, *arguments)
        model = onnx.load(path)
        next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Identity"
        onnx.save(model, path)

    monkeypatch.setattr(onward_export.publish, "write_onnx", write_with_a_fault)
    with pytest.raises(ParityFailure):
        publish(ModelToExport(Residual(), RGB, private), tmp_path / "private", options=ExportOptions(formats=("onnx",)))
    assert [path.name for path in tmp_path.iterdir()] == ["private.refused.html"]
    document = (tmp_path / "private.refused.html").read_text(encoding="utf-8")
    assert first_lines(document)[0] == "Failed: parity of Residual"
    assert sum(png_data_uri(image) in document for image in private) == document.count("<b>real sample") >= 1
    assert "not shown" not in document


def test_real_pictures_are_shown_as_far_as_they_travel(tmp_path: Path, logits) -> None:
    wrong = {**logits, "real": logits["real"] + np.linspace(1e-2, 2e-2, 20)[:, None] * [1, 0, 0]}
    results = make_results(wrong, logits, num_shown={"real": 15})
    shown = {sample.index for sample in worst_samples(results) if sample.index < 15}
    hidden = {sample.index for sample in worst_samples(results) if sample.index >= 15}
    assert shown
    assert hidden
    document = render(tmp_path, results)
    assert document.count(PICTURE) == len(shown)
    assert document.count("not shown: not stored in the bundle") == len(hidden)
    assert render(tmp_path, replace(results, num_shown={})).count(PICTURE) == 8  # of a refusal: it stays here


def test_samples_that_are_no_pictures_are_a_table_of_indices(tmp_path: Path, logits) -> None:
    tensors = {kind: np.zeros((20, 5), np.float32) for kind in logits}
    record = make_record(logits, tensors)
    document = render(tmp_path, ParityResults([make_result(record, logits)], record, MODEL))
    assert PICTURE not in document
    assert len(re.findall(r"<td>(?:real|random) sample \d+</td>", document)) == 8
    assert "float32 5" in document


def swapped_agreements() -> tuple[list[ClassAgreement], ParityResults]:
    """Ten cats, six dogs, one near tie of dog and horse; the artifact takes cats for dogs, dogs for cats."""
    rows = [[5.0, 1, 0]] * 10 + [[1.0, 5, 0]] * 6 + [[0.0, 4 + 1e-8, 4]]
    reference = {"real": np.array(rows)}
    given = {"real": np.array(rows)[:, [1, 0, 2]]}
    given["real"][-1] = [0.0, 4, 4 + 1e-8]
    record = make_record(reference)
    noise = {"real": {name: Noise(1e-6, 1e-7, 5.0) for name in ("logits", "probabilities")}}
    record = replace(record, noise=noise)
    wrong = make_result(record, given)
    for array in (output for grouping in wrong.replayed["real"] for output in grouping.values()):
        array[-1, 2] = np.nextafter(array[-1, 1], np.float32(9))
    right = make_result(record, reference, "pt2")
    results = ParityResults([wrong, right], record, MODEL)
    return class_agreements(results), results


def test_swapped_labels_are_seen_in_their_classes() -> None:
    (cat, dog, horse), _ = swapped_agreements()
    assert (cat.num_samples, cat.num_disagreeing, cat.instead) == (10, {"onnx": 10, "pt2": 0}, {1: 10})
    assert (dog.num_samples, dog.num_disagreeing) == (7, {"onnx": 7, "pt2": 0})
    assert dog.instead == {0: 6, 2: 1}
    assert (horse.num_samples, horse.has_disagreement) == (0, False)


def test_a_disagreement_within_noise_is_told_apart(tmp_path: Path) -> None:
    (cat, dog, _), results = swapped_agreements()
    assert cat.num_within_noise == {"onnx": 0, "pt2": 0}
    assert dog.num_within_noise == {"onnx": 1, "pt2": 0}
    document = render(tmp_path, results)
    assert "<td>0 of 7, 1 within noise</td><td>7 of 7</td><td>cat ×6, horse ×1</td>" in document


def test_a_disagreement_at_one_batch_size_and_of_one_output_is_one() -> None:
    rows = np.array([[4.0, 4 - 1e-4, 0], [5.0, 1, 0]])
    record = make_record({"random": rows})
    noise = {"logits": Noise(1e-3, 1e-4, 5.0), "probabilities": Noise(1e-9, 1e-10, 1.0)}
    record = replace(record, noise={"random": noise})
    sound = make_result(record, {"random": rows})
    groupings = list(sound.replayed["random"])
    groupings[1] = {**groupings[1], "logits": rows[:, [1, 0, 2]].astype(np.float32)}
    results = ParityResults([replace(sound, replayed={"random": groupings})], record, MODEL)
    cat = class_agreements(results)[0]
    assert (cat.num_samples, cat.num_disagreeing, cat.instead) == (2, {"onnx": 2}, {1: 2})
    assert cat.num_within_noise == {"onnx": 1}  # of the logits' noise; the probabilities, which agree, do not matter


def test_of_many_classes_only_those_with_a_disagreement_are_listed(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(64, 1000))
    model = replace(MODEL, labels=tuple(f"class {index}" for index in range(1000)))
    wrong = rows.copy()
    expected = int(rows[9].argmax())
    wrong[9, expected] = -9
    record = make_record(
        {"random": rows}, {"random": np.random.default_rng(0).integers(0, 256, (64, 224, 224, 3), np.uint8)}
    )
    results = [make_result(record, {"random": wrong}, name) for name in ("onnx", "torchscript", "pt2")]
    document = render(tmp_path, ParityResults(results, record, model))
    assert "999 of 1,000 classes have no disagreement." in document
    assert document.count(f"<td>class {expected}</td><td>1</td><td>0 of 1</td>") == 1
    assert len(document.encode()) < 1_000_000
    sound = ParityResults([make_result(record, {"random": rows})], record, model)
    assert "label for every sample." in render(tmp_path, sound)


def test_the_page_repeats_to_the_byte_and_needs_nothing_from_outside(tmp_path: Path) -> None:
    documents = [
        (publish(ModelToExport(Plain(), SIGNATURE), tmp_path / name).path / "parity.html").read_text(encoding="utf-8")
        for name in ("one", "other")
    ]
    assert documents[0] == documents[1]
    assert "http" not in documents[0]
    assert "href" not in documents[0]
    assert documents[0].count(PICTURE) == documents[0].count("src=") == 8
    assert str(tmp_path) not in documents[0]


def test_what_was_tried_names_samples_files_and_versions(tmp_path: Path) -> None:
    bundle = publish(
        ModelToExport(Plain(), SIGNATURE), tmp_path / "plain", options=ExportOptions(formats=("onnx", "pt2"))
    )
    document = (bundle.path / "parity.html").read_text(encoding="utf-8")
    assert re.search(r"<td>random</td><td>\d+</td><td>1, 2, [^<]+</td><td>uint8 8×8×1</td>", document)
    assert "<td>model.onnx</td><td>onnxruntime</td>" in document
    assert f"<td>{bundle.artifact('onnx').opset}</td>" in document
    assert f"torch {torch.__version__}" in document or f"torch {torch.__version__.split('+')[0]}" in document


def test_folds_are_named_behind_a_summary(tmp_path: Path) -> None:
    bundle = publish(ModelToExport(Residual(), RGB), tmp_path / "residual", options=ExportOptions(formats=("onnx",)))
    document = (bundle.path / "parity.html").read_text(encoding="utf-8")
    assert "<details><summary>onnx: 5 folded values, by name</summary>" in document
    for fold in bundle.parity()["artifacts"][0]["weights"]["folds"]:
        assert f"<li>{fold}</li>" in document


def test_without_float64_the_page_does_not_speak_of_a_noise_floor_of_pytorch_s(tmp_path: Path) -> None:
    bundle = publish(
        ModelToExport(OnlyFloat32(), SIGNATURE), tmp_path / "narrow", options=ExportOptions(formats=("onnx",))
    )
    document = (bundle.path / "parity.html").read_text(encoding="utf-8")
    _, lead = first_lines(document)
    assert "torch.testing.assert_close" in lead
    assert "; onnx " not in document  # no PyTorch beside it in a histogram: it is the reference
    assert "does not run in float64" in document


def test_a_check_of_the_reference_says_its_figure(logits) -> None:
    results = make_results(logits, logits)
    noise = results.record.noise["real"]["logits"]
    assert any(f"{noise.floor / noise.scale:.0e}"[2:] in sentence for sentence in preconditions(results))
    assert any("same to within 1e-09" in sentence for sentence in preconditions(results))


def test_a_replay_holds_every_sample_once_for_each_batch_size() -> None:
    images = {"random": np.random.default_rng(0).integers(0, 256, (9, 2, 2, 1), np.uint8)}
    replayed = replay(lambda batch: {"sum": batch.sum((1, 2, 3)).astype(np.float32)}, images)
    assert len(replayed["random"]) == len(batchings(9)) == 2
    for outputs in replayed["random"]:
        np.testing.assert_array_equal(outputs["sum"], images["random"].sum((1, 2, 3)))
