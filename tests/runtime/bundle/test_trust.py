"""What of a bundle may be opened: who made it decides, and the files themselves."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import onward
from onward.backends import open_artifact
from onward.benchmarking.matrix import Matrix
from onward.benchmarking.model import ModelUnderTest
from onward.benchmarking.spec import Selection
from onward.bundle import MANIFEST, Bundle
from onward.bundle.trust import NO_TRUST, SKIPPED, Trust, is_remembered, remember, state_folder
from onward.bundle.verification import verify
from onward.errors import BundleError, TrustError, UsageError
from tests.conftest import Onward
from tests.needs import FORMATS, needs_torch

WITH_CODE = FORMATS[1:]


@pytest.fixture
def strange(bundle: Bundle) -> Bundle:
    """A bundle that somebody else made: its manifest is none that this user wrote."""
    forged = replace(bundle, provenance={**bundle.provenance, "made": "elsewhere"})
    (bundle.path / MANIFEST).write_text(json.dumps(forged.to_json()))
    return Bundle.open(bundle.path)


@needs_torch
def test_of_a_strangers_bundle_verify_runs_onnx_only(strange: Bundle, here: Onward) -> None:
    results = {result.artifact: result for result in verify(strange)}
    assert {name: result.skipped for name, result in results.items()} == {
        "onnx": "",
        **dict.fromkeys(WITH_CODE, SKIPPED),
    }
    assert results["onnx"].passed
    done = here("verify", strange.path)
    assert done.returncode == 0
    assert " ".join(done.stdout.split()).count("skipped: it can run code") == len(WITH_CODE)
    assert f"each artifact that ran is as close as PyTorch. {len(WITH_CODE)} did not run." in done.stdout


@needs_torch
@pytest.mark.parametrize("name", WITH_CODE)
def test_what_is_asked_for_by_name_is_an_error_that_says_what_to_do(strange: Bundle, name: str, here: Onward) -> None:
    with pytest.raises(TrustError, match=r"can run code, .* add --trust \(trust=True in Python\)"):
        verify(strange, artifacts=[name])
    with pytest.raises(TrustError, match="can run code"):
        open_artifact(strange, strange.artifact(name))
    for call in (
        lambda: onward.load(strange.path, artifact=name),
        lambda: onward.predict(strange, strange.path, strange.path / "rows.csv", artifact=name),
        lambda: onward.evaluate(strange.path, "digits", artifact=name),
    ):
        with pytest.raises(TrustError, match="can run code"):
            call()
    done = here("predict", strange.path, strange.path, "--artifact", name)
    assert (done.returncode, "--trust" in done.stderr) == (2, True)


@needs_torch
def test_trust_by_word_opens_everything(strange: Bundle, here: Onward) -> None:
    assert all(not result.skipped for result in onward.verify(strange.path, trust=True))
    assert all(result.verdict for result in onward.verify(strange, trust=True))  # an opened bundle, too
    with onward.load(strange.path, artifact=WITH_CODE[-1], trust=True) as classifier:
        assert classifier.verify().passed
    assert json.loads(here("verify", strange.path, "--trust", "--json").stdout)["passed"]


@needs_torch
def test_a_benchmark_leaves_out_backends_of_files_with_code(strange: Bundle) -> None:
    models = {"strange": ModelUnderTest(strange.path)}
    matrix = Matrix.build(models, Selection())
    assert {item.format for item in matrix.candidates} == {"onnx"}
    assert set(WITH_CODE) <= set(matrix.untrusted)
    with pytest.raises(TrustError, match="can run code"):
        Matrix.build(models, Selection(backends=("torchscript",)))
    trusted = Matrix.build({"strange": ModelUnderTest(strange.path, trust=Trust(by_word=True))}, Selection())
    assert not trusted.untrusted
    without_onnx = replace(strange, artifacts=strange.artifacts[1:])
    (strange.path / MANIFEST).write_text(json.dumps(without_onnx.to_json()))
    with pytest.raises(UsageError, match="it can run code"):
        Matrix.build({"strange": ModelUnderTest(strange.path)}, Selection())


@needs_torch
def test_the_process_of_a_benchmark_is_told_of_trust(strange: Bundle) -> None:
    with pytest.raises(TrustError, match="can run code"):
        onward.bench(strange.path, backends=["torchscript"])
    report = onward.bench(
        strange.path,
        backends=["torchscript"],
        trust=True,
        with_files=False,
        batch_sizes=(1,),
        num_process_runs=1,
        num_rounds=1,
    )
    assert {row.status for row in report.rows} <= {"measured", "imprecise"}


def test_where_nothing_ran_nothing_is_verified(strange: Bundle, here: Onward) -> None:
    only = replace(strange, artifacts=tuple(item for item in strange.artifacts if item.format in WITH_CODE))
    for path in ("model.onnx", "golden/onnx.npz"):
        (strange.path / path).unlink()
    files = tuple(file for file in strange.files if file.path != "golden/onnx.npz")
    (strange.path / MANIFEST).write_text(json.dumps(replace(only, files=files).to_json()))
    done = here("verify", strange.path)
    assert done.returncode == 1
    assert "NOT VERIFIED: no artifact was run." in done.stdout
    assert not json.loads(here("verify", strange.path, "--json").stdout)["passed"]


def test_a_copy_of_ones_own_bundle_stays_trusted(bundle: Bundle) -> None:
    assert bundle.trust == NO_TRUST
    assert all(bundle.may_open(artifact) for artifact in bundle.artifacts)


def test_a_changed_manifest_is_not_ones_own(strange: Bundle) -> None:
    assert {item.format: strange.may_open(item) for item in strange.artifacts}["onnx"]
    assert not any(strange.may_open(item) for item in strange.artifacts if item.format in WITH_CODE)


def test_an_unknown_format_is_taken_for_one_with_code(strange: Bundle) -> None:
    assert not strange.may_open(replace(strange.artifacts[0], format="pte"))


def test_what_is_remembered_is_private_and_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONWARD_STATE", str(tmp_path / "state"))
    digest = "0123456789abcdef" * 4
    assert not is_remembered(digest)
    assert remember(digest, tmp_path / "bundle") == ""
    assert is_remembered(digest)
    (kept,) = (tmp_path / "state" / "exported").iterdir()
    assert (kept.name, kept.read_text()) == (digest, f"{tmp_path / 'bundle'}\n")
    if os.name == "posix":
        assert kept.stat().st_mode & 0o777 == 0o600
        assert kept.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("digest", ["", ".", "..", "../exported", "0" * 63, "0" * 64 + "/"])
def test_only_a_digest_is_looked_up(digest: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONWARD_STATE", str(tmp_path))
    remember("0" * 64, tmp_path)
    assert not is_remembered(digest)


def test_a_state_folder_that_cannot_be_written_is_a_remark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ONWARD_STATE", str(tmp_path / "file"))
    said = remember("0" * 64, tmp_path / "bundle")
    assert "cannot be remembered" in said
    assert "--trust" in said
    assert "$ONWARD_STATE" in said
    assert not is_remembered("0" * 64)


def test_the_state_folder_is_the_platforms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ONWARD_STATE")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert state_folder() == tmp_path / "onward"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    for platform, parts in (("linux", ".local/state"), ("darwin", "Library/Application Support")):
        monkeypatch.setattr(sys, "platform", platform)
        assert state_folder() == tmp_path / parts / "onward"


def test_trust_reads_back_equal() -> None:
    for trust in (NO_TRUST, Trust(by_word=True), Trust(key=Path("a.pub"))):
        assert Trust.of(**json.loads(json.dumps(trust.to_json()))) == trust


@pytest.mark.parametrize("name", ["notes.txt", "golden/onnx.npy", "model.onnx.data", ".hidden"])
def test_a_file_that_the_manifest_does_not_name_is_refused(bundle: Bundle, name: str, here: Onward) -> None:
    (bundle.path / name).write_bytes(b"")
    with pytest.raises(BundleError, match="is not named by the manifest"):
        bundle.check()
    done = here("verify", bundle.path)
    assert (done.returncode, name in done.stderr) == (2, True)


def test_a_link_that_the_manifest_does_not_name_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (bundle.path / "more").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(BundleError, match="is not named by the manifest"):
        bundle.check()


def test_files_of_desktops_and_a_signature_may_lie_beside_the_manifest(bundle: Bundle) -> None:
    for name in (".DS_Store", "Thumbs.db", "golden/.DS_Store", "model.sig"):
        (bundle.path / name).write_bytes(b"")
    bundle.check()
