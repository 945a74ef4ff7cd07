"""An artifact of lower precision is judged by what it gave when it was built, on every way to see or run it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onward
from onward.backends import open_artifact
from onward.bundle import MANIFEST, Artifact, Bundle, digest_file
from onward.bundle.bill_of_materials import bill_of_materials
from onward.bundle.golden import save_outputs
from onward.bundle.onnx_alone import open_bundle_or_onnx
from onward.bundle.trust import NO_TRUST
from onward.bundle.verification import Verification, verify, verify_backend
from onward.errors import BundleError
from onward.lower_precision import FILE, KERNELS
from tests.bundles import DIGITS_INT8, path_of
from tests.needs import FORMATS

INT8 = "onnx-int8"
OUTPUTS = ("logits", "probabilities")
KINDS = ("real", "random", "constant")


@pytest.fixture(scope="module")
def int8() -> Bundle:
    return Bundle.open(path_of(DIGITS_INT8))


@pytest.fixture
def copy(int8: Bundle, tmp_path: Path) -> Bundle:
    """A copy that a test may change."""
    return Bundle.open(shutil.copytree(int8.path, tmp_path / "digits"))


def renew(bundle: Bundle) -> Bundle:
    """Make the digests of changed files hold."""
    files = tuple(digest_file(bundle.path, bundle.path / file.path) for file in bundle.files)
    (bundle.path / MANIFEST).write_text(json.dumps(replace(bundle, files=files).to_json()))
    return Bundle.open(bundle.path)


def change(bundle: Bundle, name: str, by: Callable[[Any], Any]) -> Bundle:
    """Change the recorded or simulated outputs of an artifact."""
    outputs = bundle.golden_outputs(name)
    changed = {kind: {key: by(array) for key, array in table.items()} for kind, table in outputs.items()}
    save_outputs(bundle.path / f"golden/{name}.npz", changed)
    return renew(bundle)


def times_the_error(bundle: Bundle, factor: float) -> Callable[[Any], Any]:
    """Moves an array by a multiple of the quantisation error of the logits."""
    reference = bundle.golden().reference["real"]["logits"]
    error = float(np.sqrt(np.square(bundle.golden_simulation(INT8)["real"]["logits"] - reference).mean()))
    return lambda array: array + array.dtype.type(factor * error)


def verdict_of(bundle: Bundle) -> Verification:
    (found,) = verify(bundle, artifacts=[INT8])
    assert found.verdict is None
    assert found.lower_precision is not None
    return found


def test_on_the_building_machine_it_has_the_same_bits_and_passes(int8: Bundle) -> None:
    found = verdict_of(int8)
    verdict = found.lower_precision
    assert verdict is not None
    assert (found.passed, found.same_bits, found.precision, verdict.precision) == (True, True, "int8", "int8")
    assert (verdict.deviation_ratio, verdict.agreement, verdict.due_to) == (0, 1, "")
    assert [(row.kind, row.output) for row in verdict.deviations] == [(k, o) for k in KINDS for o in OUTPUTS]
    assert verdict.fidelity == int8.artifact(INT8).fidelity
    assert re.match("onnx-int8 computes here what was measured when it was built: it (loses|wins) ", verdict.describe())


def test_its_error_is_measured_in_the_simulation_not_in_float32s_noise(int8: Bundle) -> None:
    golden, simulation = int8.golden(), int8.golden_simulation(INT8)
    verdict = verdict_of(int8).lower_precision
    assert verdict is not None
    for row in verdict.deviations:
        expected = np.sqrt(np.square(simulation[row.kind][row.output] - golden.reference[row.kind][row.output]).mean())
        assert row.quantization_error == pytest.approx(expected)
        assert row.quantization_error > 100 * golden.noise[row.kind][row.output].rms
    assert int8.artifact(INT8).noise_ratio > 1000  # as a float32 artifact it would be refused


def test_an_error_below_float32s_own_counts_as_float32s(copy: Bundle) -> None:
    for name in (INT8, f"{INT8}.simulation"):
        save_outputs(copy.path / f"golden/{name}.npz", dict(copy.golden().reference))
    verdict = verdict_of(renew(copy)).lower_precision
    assert verdict is not None
    noise = copy.golden().noise
    assert all(row.quantization_error == noise[row.kind][row.output].rms for row in verdict.deviations)
    assert not verdict.passed


@pytest.mark.parametrize(("factor", "passed"), [(0.5, True), (1.9, True), (2.1, False), (float("nan"), False)])
def test_up_to_twice_the_error_away_is_the_same(copy: Bundle, factor: float, passed: bool) -> None:
    found = verdict_of(change(copy, INT8, times_the_error(copy, factor)))
    verdict = found.lower_precision
    assert verdict is not None
    assert not found.same_bits
    row = next(row for row in verdict.deviations if (row.kind, row.output) == ("real", "logits"))
    assert row.ratio == pytest.approx(factor, rel=1e-4, nan_ok=True)
    assert row.passed == passed


def test_where_the_file_is_sound_the_kernels_are_blamed(copy: Bundle) -> None:
    found = verdict_of(change(copy, INT8, times_the_error(copy, 5)))
    assert not found.passed
    assert found.lower_precision is not None
    assert found.lower_precision.due_to == KERNELS
    text = found.lower_precision.describe()
    assert "computes something else here than when it was built" in text
    assert "The file is sound" in text


def test_where_the_unoptimised_graph_is_wrong_too_the_file_is_blamed(copy: Bundle) -> None:
    """The record is of an artifact that is as good as float32; the file is another one."""
    for name in (INT8, f"{INT8}.simulation"):
        save_outputs(copy.path / f"golden/{name}.npz", dict(copy.golden().reference))
    found = verdict_of(renew(copy))
    assert not found.passed
    assert found.lower_precision is not None
    assert found.lower_precision.due_to == FILE
    assert "the file or the installed onnxruntime is to blame" in found.lower_precision.describe()


def test_a_backend_that_saturates_is_found(int8: Bundle) -> None:
    """What a processor without VNNI does, planted: sums that are too large are cut off."""
    artifact = int8.artifact(INT8)
    honest = open_artifact(int8, artifact)

    class Saturating(type(honest)):  # type: ignore[misc]
        name = "onnx (saturating)"

        def __init__(self) -> None:
            self.__dict__.update(honest.__dict__)

        def run(self, feed: Any) -> Any:
            outputs = honest.run(feed)
            return outputs | {"logits": np.clip(outputs["logits"], -2, 2)}

    found = verify_backend(int8, artifact, Saturating())
    assert not found.passed
    assert found.lower_precision is not None
    assert (found.lower_precision.due_to, found.lower_precision.worst.output) == (KERNELS, "logits")


@pytest.mark.parametrize("batch_size", [1, 7])
def test_one_batch_size_that_deviates_fails(int8: Bundle, batch_size: int) -> None:
    artifact = int8.artifact(INT8)
    backend = open_artifact(int8, artifact)
    run = backend.run

    def wrong_at(feed: Any) -> Any:
        outputs = run(feed)
        return {name: array + 100 * (len(feed) == batch_size) for name, array in outputs.items()}

    backend.run = wrong_at  # type: ignore[method-assign]
    assert not verify_backend(int8, artifact, backend).passed


def test_openvino_gives_what_was_measured(int8: Bundle) -> None:
    pytest.importorskip("openvino")
    artifact = int8.artifact(INT8)
    found = verify_backend(int8, artifact, open_artifact(int8, artifact, backend="openvino"))
    assert found.passed
    assert found.lower_precision is not None
    assert found.lower_precision.deviation_ratio < 0.1


@pytest.mark.parametrize("name", [INT8, f"{INT8}.simulation"])
def test_a_record_that_is_incomplete_missing_or_changed_is_refused(copy: Bundle, name: str) -> None:
    path = copy.path / f"golden/{name}.npz"
    outputs = copy.golden_outputs(name)
    save_outputs(path, {kind: table for kind, table in outputs.items() if kind != "random"})
    with pytest.raises(BundleError, match=f"golden/{name}.npz has no 'random' samples"):
        verify(renew(copy), artifacts=[INT8])
    save_outputs(path, {kind: {"logits": table["logits"]} for kind, table in outputs.items()})
    with pytest.raises(BundleError, match=rf"golden/{name}.npz: \w+ has the outputs \['logits'\]"):
        verify(renew(copy), artifacts=[INT8])
    without = tuple(file for file in copy.files if file.path != f"golden/{name}.npz")
    path.unlink()
    with pytest.raises(BundleError, match=rf"has no golden/{name}.npz"):
        verify(renew(replace(copy, files=without)), artifacts=[INT8])


def test_the_json_form_says_the_precision_and_the_budget(int8: Bundle) -> None:
    document = json.loads(json.dumps(verdict_of(int8).to_json()))
    assert (document["precision"], document["passed"], document["same_bits_as_builder"]) == ("int8", True, True)
    verdict = document["verdict"]
    assert (verdict["deviation_ratio"], verdict["due_to"]) == (0, None)
    assert verdict["fidelity"]["budget"]["max_loss"] == 0.03
    assert "noise_ratio" not in verdict


def test_the_command_shows_both_rules(int8: Bundle, here: Any) -> None:
    out = here("verify", int8.path, "--artifact", "onnx", "--artifact", INT8)
    assert out.returncode == 0
    assert "deviation / quantisation error" in out.stdout
    assert re.search("onnx-int8 computes here what was measured when it was built: it (loses|wins) ", out.stdout)
    assert "passed: every digest is right, and each float32 artifact is as close as PyTorch." in out.stdout
    alone = here("verify", int8.path, "--artifact", INT8).stdout
    assert "PyTorch" not in alone
    assert "passed: every digest is right." in alone
    assert json.loads(here("verify", int8.path, "--artifact", INT8, "--json").stdout)["passed"]


def test_the_command_fails_with_a_sentence(copy: Bundle, here: Any) -> None:
    change(copy, INT8, times_the_error(copy, 5))
    out = here("verify", copy.path, "--artifact", INT8)
    assert out.returncode == 1
    assert "times its quantisation error away, at most 2 is allowed" in out.stdout
    assert "FAILED" in out.stdout


def test_by_default_verify_runs_every_precision(int8: Bundle) -> None:
    results = verify(int8)
    assert [item.artifact for item in results] == [*FORMATS, INT8]
    assert all(item.passed for item in results)
    assert [item.precision for item in results] == [*["float32"] * len(FORMATS), "int8"]


def test_a_classifier_of_it_is_asked_for_by_name(int8: Bundle, pixels: Any) -> None:
    with onward.load(int8.path) as float32, onward.load(int8.path, artifact=INT8) as lower:
        assert float32.artifact.is_float32
        assert (lower.artifact.precision, lower.artifact.parent) == ("int8", "onnx")
        assert lower.verify().passed
        differences = np.abs(lower(pixels).logits - float32(pixels).logits)
        assert 0 < differences.max() < 1
        same = np.equal(lower(pixels).indices, float32(pixels).indices)
        assert same.mean() > 0.9


def test_the_preferred_artifact_is_float32_whatever_comes_first(copy: Bundle) -> None:
    turned = replace(copy, artifacts=copy.artifacts[::-1])
    (turned.path / MANIFEST).write_text(json.dumps(turned.to_json()))
    opened = Bundle.open(turned.path)
    assert opened.artifacts[0].name == INT8
    assert opened.preferred("onnx").name == "onnx"
    alone: tuple[Artifact, ...] = (copy.artifact(INT8),)
    with pytest.raises(BundleError, match="has no float32 artifact of format 'onnx'; it has onnx-int8"):
        replace(copy, artifacts=alone).preferred("onnx")


def test_inspect_says_what_it_was_made_from_and_what_it_loses(int8: Bundle, here: Any) -> None:
    out = here("inspect", int8.path).stdout
    assert "onnx-int8 is int8, made from onnx (weight bits 7, ranges minimum and maximum, data digits, " in out
    assert re.search(r"\): it (loses|wins) [\d.]+ points? of accuracy on 646 images", out)
    assert f"{int8.artifact(INT8).noise_ratio:.2f}" not in out  # it is no verdict
    (document,) = (item for item in onward.inspect(int8.path)["artifacts"] if item["name"] == INT8)
    assert (document["parent"], document["recipe"]["weight_bits"]) == ("onnx", 7)
    assert document["fidelity"]["num_labelled"] == 646


def test_the_bill_of_materials_has_the_loss_in_place_of_a_noise_ratio(int8: Bundle) -> None:
    document = bill_of_materials(int8)
    metrics = document["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    fidelity = int8.artifact(INT8).fidelity
    assert fidelity is not None
    assert {item["type"]: item["value"] for item in metrics if item["slice"] == "artifact onnx-int8"} == {
        "accuracy lost at most (95 %)": f"{fidelity.loss_bound:.4f}",
        "agreement with float32": f"{fidelity.agreement:.4f}",
    }
    (file,) = (item for item in document["components"] if item["name"] == "model.int8.onnx")
    assert {"name": "onward:parent", "value": "onnx"} in file["properties"]


def test_predict_runs_it_by_name_and_says_so(int8: Bundle, pixels: Any, tmp_path: Path, here: Any) -> None:
    np.save(tmp_path / "images.npy", pixels[..., 0])
    ran = here("predict", int8.path, tmp_path / "images.npy", "--artifact", INT8, "--out", tmp_path / "a.csv", "--json")
    document = json.loads(ran.stdout)
    assert (document["artifact"], document["precision"], document["num_predicted"]) == (INT8, "int8", len(pixels))
    summary = onward.predict(int8, tmp_path / "images.npy", tmp_path / "rows.npy", artifact=INT8)
    assert summary.describe_backend() == "onnx (CPU) in int8"
    onward.predict(int8, tmp_path / "images.npy", tmp_path / "float32.npy")
    lower, float32 = np.load(tmp_path / "rows.npy"), np.load(tmp_path / "float32.npy")
    with onward.load(int8.path, artifact=INT8) as classifier:
        np.testing.assert_array_equal(lower, classifier(pixels).probabilities)
    assert not np.array_equal(lower, float32)


def test_its_file_alone_says_its_precision(int8: Bundle, tmp_path: Path) -> None:
    for name, precision in (("model.onnx", "float32"), ("model.int8.onnx", "int8")):
        alone = shutil.copy(int8.path / name, tmp_path / "some.onnx")
        (artifact,) = open_bundle_or_onnx(Path(alone), NO_TRUST).artifacts
        assert (artifact.name, artifact.precision) == ("onnx", precision)
