from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onward.bundle import FORMAT, MANIFEST, Artifact, Bundle, FileDigest, digest_file, manifest_digest, previous_path
from onward.document import Document
from onward.errors import BundleError
from onward.tasks.class_fidelity import measure_fidelity
from tests.needs import FORMATS

LAW = settings(max_examples=150, deadline=None)
EVERY_FILE = (
    *(f"model.{name}" for name in FORMATS),
    "golden.npz",
    *(f"golden/{name}.npz" for name in FORMATS),
    "parity.json",
    "parity.html",
)


@pytest.fixture(scope="module")
def playground(shared_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the bundle, whose manifest examples write anew."""
    return Path(shutil.copytree(shared_bundle.path, tmp_path_factory.mktemp("playground") / "digits"))


def rewrite(bundle: Bundle, change: Callable[[dict[str, Any]], object], *, with_digest: bool = True) -> None:
    """Change the manifest as a forger would: its digest is made to hold."""
    path = bundle.path / MANIFEST
    document = json.loads(path.read_text())
    change(document)
    if with_digest:
        document["manifest_sha256"] = manifest_digest(document)
    path.write_text(json.dumps(document))


def named(document: dict[str, Any], path: str) -> dict[str, Any]:
    """What the manifest says of a file."""
    files = [*document["files"], *(artifact["file"] for artifact in document["artifacts"])]
    entry: dict[str, Any] = next(file for file in files if file["path"] == path)
    return entry


def forge(document: Any, data: st.DataObject) -> None:
    """Put something else in one place, at any depth."""
    while True:
        key = data.draw(st.sampled_from(sorted(document) if isinstance(document, dict) else range(len(document))))
        if not isinstance(document[key], (dict, list)) or not document[key] or not data.draw(st.integers(0, 3)):
            document[key] = data.draw(st.sampled_from([None, True, 0, -1, float("inf"), "", "text", [], [[]], {}]))
            return
        document = document[key]


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def test_opening_gives_what_was_published(shared_bundle: Bundle) -> None:
    assert Bundle.open(shared_bundle.path) == shared_bundle
    assert Bundle.open(str(shared_bundle.path)) == shared_bundle
    assert [artifact.name for artifact in shared_bundle.artifacts] == list(FORMATS)


def test_the_manifest_reads_back_equal(shared_bundle: Bundle) -> None:
    assert json.loads((shared_bundle.path / MANIFEST).read_text()) == shared_bundle.to_json()


def test_only_an_artifact_of_lower_precision_says_what_it_was_made_from(shared_bundle: Bundle) -> None:
    onnx = shared_bundle.artifact("onnx")
    assert onnx.is_float32
    assert list(onnx.to_json()) == ["name", "format", "file", "precision", "opset", "noise_ratio"]
    logits = np.eye(3)[np.arange(600) % 3]
    fidelity = measure_fidelity("abc", logits, logits, None, 0.0)
    recipe = {"weight_bits": 7, "in_float": ["/fc/Gemm"]}
    lower = replace(onnx, name="onnx-int8", precision="int8", parent="onnx", recipe=recipe, fidelity=fidelity)
    assert not lower.is_float32
    document = json.loads(json.dumps(lower.to_json()))
    assert document["fidelity"]["budget"] == {
        "max_loss": 0.005,
        "max_nll": 0.01,
        "max_kl": 0.005,
        "min_agreement": 0.98,
    }
    assert Document.of(document, "it", BundleError).read(Artifact) == lower
    assert len({onnx, lower}) == 2
    document["fidelity"]["agreement"] = 2
    with pytest.raises(BundleError, match="it: fidelity: agreement of a fidelity is 2"):
        Document.of(document, "it", BundleError).read(Artifact)


def test_the_manifest_vouches_for_every_other_file(shared_bundle: Bundle) -> None:
    there = {path.relative_to(shared_bundle.path).as_posix() for path in shared_bundle.path.rglob("*.*")}
    assert there - {MANIFEST} == set(EVERY_FILE)
    for file in EVERY_FILE:
        assert named(shared_bundle.to_json(), file) == asdict(
            digest_file(shared_bundle.path, shared_bundle.path / file)
        )
    shared_bundle.check()


@LAW
@given(st.data())
def test_a_manifest_with_one_byte_changed_does_not_open(
    playground: Path, shared_bundle: Bundle, data: st.DataObject
) -> None:
    whole = (shared_bundle.path / MANIFEST).read_bytes()
    at, byte = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
    (playground / MANIFEST).write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
    try:
        opened = Bundle.open(playground)
    except BundleError:
        return
    assert replace(opened, path=shared_bundle.path) == shared_bundle  # white space, or the e of 1e-05


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_manifest_cut_short_does_not_open(playground: Path, shared_bundle: Bundle, data: st.DataObject) -> None:
    whole = (shared_bundle.path / MANIFEST).read_bytes()
    (playground / MANIFEST).write_bytes(whole[: data.draw(st.integers(0, len(whole.rstrip()) - 1))])
    with pytest.raises(BundleError):
        Bundle.open(playground)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_forged_manifest_is_a_bundle_or_a_bundle_error(
    playground: Path, shared_bundle: Bundle, data: st.DataObject
) -> None:
    document = json.loads(json.dumps(shared_bundle.to_json()))
    forge(document, data)
    document["manifest_sha256"] = manifest_digest(document)
    (playground / MANIFEST).write_text(json.dumps(document))
    try:
        opened = Bundle.open(playground)
        opened.check()
        assert opened.golden().inputs
    except BundleError:
        pass


@pytest.mark.parametrize("file", EVERY_FILE)
def test_one_byte_changed_in_any_file_is_found_and_the_file_named(bundle: Bundle, file: str) -> None:
    path = bundle.path / file
    flip(path, path.stat().st_size // 2)
    with pytest.raises(BundleError, match=rf"{file} was changed: its SHA-256"):
        bundle.check()


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data + b"\n", lambda data: b""])
def test_a_file_of_another_size_is_found_and_both_sizes_named(bundle: Bundle, change: Callable[[bytes], bytes]) -> None:
    path = bundle.path / "model.onnx"
    size_bytes = path.stat().st_size
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(BundleError, match=rf"has {path.stat().st_size} bytes, the manifest says {size_bytes}"):
        bundle.check()


@pytest.mark.parametrize("file", EVERY_FILE)
def test_a_missing_file_is_found_and_named(bundle: Bundle, file: str) -> None:
    (bundle.path / file).unlink()
    with pytest.raises(BundleError, match=rf"{file} is missing"):
        bundle.check()


def test_a_file_is_read_only_if_its_digest_holds(bundle: Bundle) -> None:
    file = bundle.artifact("onnx").file
    assert len(bundle.read(file)) == file.size_bytes
    assert bundle.locate(file) == bundle.path / "model.onnx"
    flip(bundle.path / "model.onnx", 100)
    for access in (bundle.read, bundle.locate):
        with pytest.raises(BundleError, match="was changed"):
            access(file)


@pytest.mark.parametrize("read", [Bundle.golden, Bundle.parity, lambda bundle: bundle.golden_outputs("onnx")])
def test_records_are_read_only_if_their_digests_hold(bundle: Bundle, read: Callable[[Bundle], object]) -> None:
    read(bundle)
    for file in ("golden.npz", "golden/onnx.npz", "parity.json"):
        flip(bundle.path / file, 30)
    with pytest.raises(BundleError, match="was changed"):
        read(bundle)


@pytest.mark.parametrize(
    "path", ["/etc/hostname", "../outside", "golden/../../outside", "..\\outside", "C:/outside", "C:outside"]
)
def test_a_path_that_leads_out_of_the_bundle_is_refused(bundle: Bundle, path: str) -> None:
    (bundle.path.parent / "outside").write_text("outside")
    rewrite(bundle, lambda document: named(document, "model.onnx").update(path=path))
    opened = Bundle.open(bundle.path)
    with pytest.raises(BundleError, match="outside the bundle"):
        opened.check()
    with pytest.raises(BundleError, match="outside the bundle"):
        opened.read(opened.artifact("onnx").file)


@pytest.mark.parametrize("path", ["", ".", "golden", "missing", "nul\0byte", "x" * 5000])
def test_a_path_that_names_no_file_is_refused(bundle: Bundle, path: str) -> None:
    rewrite(bundle, lambda document: named(document, "model.onnx").update(path=path))
    with pytest.raises(BundleError):
        Bundle.open(bundle.path).check()


def test_a_symbolic_link_is_refused_even_to_the_same_bytes(bundle: Bundle) -> None:
    path = bundle.path / "model.onnx"
    path.symlink_to(path.rename(bundle.path / "elsewhere.onnx"))
    with pytest.raises(BundleError, match="symbolic link"):
        bundle.check()


def test_a_folder_behind_a_symbolic_link_is_refused(bundle: Bundle) -> None:
    folder = bundle.path / "golden"
    folder.symlink_to(folder.rename(bundle.path.parent / "elsewhere"))
    with pytest.raises(BundleError, match="golden is a symbolic link"):
        bundle.check()


def test_a_manifest_behind_a_symbolic_link_is_refused(bundle: Bundle) -> None:
    manifest = bundle.path / MANIFEST
    manifest.symlink_to(manifest.rename(bundle.path.parent / "elsewhere.json"))
    with pytest.raises(BundleError, match="is not a bundle"):
        Bundle.open(bundle.path)


def test_a_format_of_the_future_asks_for_an_update(bundle: Bundle) -> None:
    rewrite(bundle, lambda document: document.update(format=FORMAT + 1), with_digest=False)
    with pytest.raises(BundleError, match=f"format {FORMAT + 1}; this Onward reads formats up to {FORMAT}. Update"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("version", [None, "1", [], 1.5])
def test_a_format_that_is_no_number_is_refused(bundle: Bundle, version: object) -> None:
    rewrite(bundle, lambda document: document.update(format=version))
    with pytest.raises(BundleError):
        Bundle.open(bundle.path)


def test_a_manifest_changed_without_its_digest_says_so(bundle: Bundle) -> None:
    rewrite(bundle, lambda document: document["signature"]["labels"].reverse(), with_digest=False)
    with pytest.raises(BundleError, match=r"was changed: its digest is not the one that it states"):
        Bundle.open(bundle.path)


@pytest.mark.parametrize("part", ["signature", "artifacts", "files", "provenance", "format", "manifest_sha256"])
def test_a_manifest_without_one_of_its_parts_is_refused(bundle: Bundle, part: str) -> None:
    rewrite(bundle, lambda document: document.pop(part), with_digest=part != "manifest_sha256")
    with pytest.raises(BundleError, match=MANIFEST):
        Bundle.open(bundle.path)


def test_what_is_no_bundle_says_what_makes_one(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(BundleError, match="onward export"):
            Bundle.open(path)


def test_a_file_is_no_bundle(shared_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="is a file of a bundle, expected the bundle's folder"):
        Bundle.open(shared_bundle.path / "model.onnx")


def test_an_unknown_artifact_is_answered_with_those_that_are_there(shared_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=f"no artifact 'tflite'; it has {', '.join(FORMATS)}"):
        shared_bundle.artifact("tflite")
    with pytest.raises(BundleError, match=r"no golden/tflite\.npz"):
        shared_bundle.golden_outputs("tflite")


def test_a_bundle_set_aside_by_a_crash_is_put_back_when_opened(bundle: Bundle) -> None:
    bundle.path.rename(previous_path(bundle.path))
    assert Bundle.open(bundle.path) == bundle
    assert not previous_path(bundle.path).exists()
    bundle.check()


def test_a_bundle_that_stands_is_not_replaced_by_the_one_aside(bundle: Bundle) -> None:
    shutil.copytree(bundle.path, previous_path(bundle.path))
    rewrite(Bundle.open(previous_path(bundle.path)), lambda document: document["provenance"].update(age="old"))
    assert Bundle.open(bundle.path) == bundle


def test_a_half_written_folder_aside_is_not_put_back(tmp_path: Path) -> None:
    previous_path(tmp_path / "digits").mkdir()
    with pytest.raises(BundleError, match="is not a bundle"):
        Bundle.open(tmp_path / "digits")


@given(st.dictionaries(st.text(max_size=4), st.integers() | st.text(max_size=4)), st.randoms())
def test_the_manifest_digest_is_that_of_the_content_not_of_its_order(document: dict[str, Any], order: Any) -> None:
    keys = list(document)
    order.shuffle(keys)
    shuffled = {key: document[key] for key in keys}
    assert manifest_digest(shuffled) == manifest_digest(document | {"manifest_sha256": "anything"})


def test_a_digest_names_the_file_relative_to_its_root_in_posix(tmp_path: Path) -> None:
    path = tmp_path / "golden" / "empty"
    path.parent.mkdir()
    path.touch()
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # SHA-256 of nothing: FIPS 180-4
    assert digest_file(tmp_path, path) == FileDigest("golden/empty", empty, 0)
