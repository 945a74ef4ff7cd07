from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import onward
from onward.backends import registry
from onward.bundle import MANIFEST, Artifact, Bundle, FileDigest, digest_file
from onward.bundle.golden import save_outputs
from onward.bundle.verification import Verification, verify
from onward.errors import BundleError, ProviderError, UsageError
from tests.needs import FORMATS, TORCH_IS_INSTALLED

RUNNABLE = [*FORMATS] if TORCH_IS_INSTALLED else ["onnx"]


@pytest.fixture(scope="module")
def results(shared_bundle: Bundle) -> list[Verification]:
    return verify(shared_bundle, artifacts=RUNNABLE)


def renew(bundle: Bundle) -> Bundle:
    """Make a changed bundle's digests hold, as a forger would."""

    def digest(file: FileDigest) -> FileDigest:
        return digest_file(bundle.path, bundle.path / file.path)

    artifacts: tuple[Artifact, ...] = tuple(replace(item, file=digest(item.file)) for item in bundle.artifacts)
    renewed = replace(bundle, artifacts=artifacts, files=tuple(map(digest, bundle.files)))
    (bundle.path / MANIFEST).write_text(json.dumps(renewed.to_json()))
    return Bundle.open(bundle.path)


def with_second_onnx(bundle: Bundle) -> Bundle:
    """The bundle with `onnx-other`, a second artifact of format ONNX."""
    onnx = bundle.artifact("onnx")
    shutil.copy(bundle.path / onnx.file.path, bundle.path / "model.other.onnx")
    shutil.copy(bundle.path / "golden/onnx.npz", bundle.path / "golden/onnx-other.npz")
    other = replace(onnx, name="onnx-other", file=replace(onnx.file, path="model.other.onnx"))
    outputs = FileDigest("golden/onnx-other.npz", "", 0)
    return renew(replace(bundle, artifacts=(*bundle.artifacts, other), files=(*bundle.files, outputs)))


def test_artifacts_of_one_format_are_chosen_by_name(bundle: Bundle, pixels: NDArray[np.uint8], tmp_path: Path) -> None:
    two = with_second_onnx(bundle)
    other = two.artifact("onnx-other")
    assert (other.format, other.precision, other.file.path) == ("onnx", "float32", "model.other.onnx")
    assert two.preferred("onnx") == two.artifact("onnx")
    assert [result.artifact for result in verify(two)] == [*FORMATS, "onnx-other"]
    (result,) = verify(two, artifacts=["onnx-other"])
    assert result.passed
    assert result.same_bits
    with onward.load(two.path, artifact="onnx-other") as classifier:
        assert classifier.artifact == other
    np.save(tmp_path / "images.npy", pixels[..., 0])
    summary = onward.predict(two, tmp_path / "images.npy", tmp_path / "rows.csv", artifact="onnx-other")
    assert summary.counts.num_predicted == len(pixels)
    written = onward.embed(two, "python", tmp_path / "app")
    assert sorted(path.name for path in written.path.glob("*.onnx")) == ["model.onnx"]


def test_the_preferred_artifact_is_the_first_of_its_format(bundle: Bundle) -> None:
    two = with_second_onnx(bundle)
    turned = renew(replace(two, artifacts=two.artifacts[::-1]))
    assert turned.preferred("onnx").name == "onnx-other"
    assert turned.artifact("onnx").name == "onnx"
    with pytest.raises(
        BundleError, match=f"has no float32 artifact of format 'pte'; it has onnx-other, {', '.join(FORMATS[::-1])}"
    ):
        turned.preferred("pte")


def test_two_artifacts_of_one_name_are_refused(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="two artifacts of the name 'onnx'"):
        renew(replace(bundle, artifacts=(bundle.artifacts[0], *bundle.artifacts)))


def test_every_artifact_passes_on_the_machine_that_built_it(results: list[Verification]) -> None:
    assert [result.artifact for result in results] == RUNNABLE
    assert all(result.passed for result in results)
    assert all(result.verdict is not None for result in results)


def test_the_outputs_are_the_builders_bit_for_bit(results: list[Verification]) -> None:
    assert {result.artifact: result.same_bits for result in results} == dict.fromkeys(RUNNABLE, True)


def test_every_kind_and_output_is_measured(results: list[Verification], shared_bundle: Bundle) -> None:
    golden = shared_bundle.golden()
    expected = {(kind, output) for kind, table in golden.reference.items() for output in table}
    for result in results:
        assert result.verdict is not None
        assert {(row.kind, row.output) for row in result.verdict.comparisons} == expected
        assert all(row.num_samples == len(golden.inputs[row.kind]) for row in result.verdict.comparisons)
    assert all(len(images) >= 8 for kind, images in golden.inputs.items() if kind != "constant")


def test_the_json_form_holds_the_verdict(results: list[Verification]) -> None:
    document = json.loads(json.dumps(results[0].to_json()))
    assert (document["artifact"], document["backend"]) == ("onnx", "onnx (CPU)")
    assert document["passed"] is document["same_bits_as_builder"] is document["verdict"]["passed"] is True
    assert document["skipped"] is None


@pytest.mark.parametrize("name", RUNNABLE)
def test_one_artifact_can_be_named(shared_bundle: Bundle, name: str) -> None:
    (result,) = verify(shared_bundle, artifacts=[name])
    assert (result.artifact, result.passed) == (name, True)


def test_naming_no_artifact_or_an_unknown_one_is_refused(shared_bundle: Bundle) -> None:
    with pytest.raises(UsageError, match="no artifact was named"):
        verify(shared_bundle, artifacts=[])
    with pytest.raises(BundleError, match="no artifact 'tflite'"):
        verify(shared_bundle, artifacts=["tflite"])


def test_a_provider_is_asked_for_strictly(shared_bundle: Bundle) -> None:
    with pytest.raises(ProviderError, match="'gpu' is unknown"):
        verify(shared_bundle, provider="gpu")


def test_a_changed_file_is_found_before_anything_runs(bundle: Bundle) -> None:
    path = bundle.path / "parity.html"
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(BundleError, match=r"parity\.html was changed"):
        verify(bundle, artifacts=["onnx"])


def test_a_reference_that_the_model_does_not_give_fails(bundle: Bundle) -> None:
    golden = bundle.golden()
    shifted = {kind: {name: array + 1e-2 for name, array in table.items()} for kind, table in golden.reference.items()}
    replace(golden, reference=shifted).save(bundle.path / "golden.npz")
    (result,) = verify(renew(bundle), artifacts=["onnx"])
    assert not result.passed
    assert result.same_bits  # the artifact is the same; it is the mathematics that it disagrees with


def test_other_bits_than_the_builders_are_said_and_do_not_fail(bundle: Bundle) -> None:
    outputs = {
        kind: {name: np.nextafter(array, np.float32(np.inf)) for name, array in table.items()}
        for kind, table in bundle.golden_outputs("onnx").items()
    }
    save_outputs(bundle.path / "golden" / "onnx.npz", outputs)
    (result,) = verify(renew(bundle), artifacts=["onnx"])
    assert result.passed
    assert not result.same_bits


def test_without_pytorch_its_artifacts_are_skipped_with_the_reason(
    shared_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "is_installed", lambda distribution: distribution != "torch")
    results = verify(shared_bundle)
    assert [result.skipped for result in results] == ["", *["PyTorch is not installed"] * len(FORMATS[1:])]
    assert [result.verdict is None for result in results] == [False, *[True] * len(FORMATS[1:])]
    assert all(result.passed for result in results)
