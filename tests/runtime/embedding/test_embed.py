from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from onward.bundle import Bundle, FileDigest
from onward.bundle.lower_precision_record import LowerPrecisionRecord
from onward.embedding import TARGETS, BrowserRuntime, Embedding, EmbedOptions, embed
from onward.embedding.embed import slug
from onward.embedding.golden_samples import write_golden_samples
from onward.errors import BundleError, UsageError
from onward.signature import Input, Signature, TensorSignature
from tests.bundles import DIGITS_INT8, path_of

#: Text that must stay text wherever it is read.
HOSTILE = (
    "it's",
    '"quoted"',
    "<img src=x onerror=alert(1)>",
    "</script><script>",
    "שלום",
    "日本語",
    "a\\b",
    "$name ${name}",
)
APPS = ("python", "node")  # the page needs onnxruntime-web: test_web.py


@pytest.fixture(scope="module", params=APPS)
def app(request: pytest.FixtureRequest, shared_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Embedding:
    return embed(shared_bundle, request.param, tmp_path_factory.mktemp("app") / "digits")


def test_an_app_has_the_very_model_and_says_what_it_takes(app: Embedding, shared_bundle: Bundle) -> None:
    described = json.loads((app.path / "model.json").read_text())
    content = (app.path / described["model"]["path"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == described["model"]["sha256"]
    assert content == (shared_bundle.path / "model.onnx").read_bytes()
    assert Signature.from_json(described["signature"]) == shared_bundle.signature
    assert described["title"] == "digits"


def test_the_golden_record_reads_back_from_raw_arrays(app: Embedding, shared_bundle: Bundle) -> None:
    folder, golden = app.path / "golden", shared_bundle.golden()
    document = json.loads((folder / "golden.json").read_text())
    assert set(document["kinds"]) == set(golden.inputs)

    def read(entry: dict[str, object]) -> np.ndarray:
        array = np.fromfile(folder / str(entry["path"]), np.dtype(str(entry["dtype"])).newbyteorder("<"))
        return array.reshape(entry["shape"])

    for kind, samples in document["kinds"].items():
        np.testing.assert_array_equal(read(samples["input"]), golden.inputs[kind])
        for output, entry in samples["outputs"].items():
            np.testing.assert_array_equal(read(entry["reference"]), golden.reference[kind][output])
            assert entry["noise"]["floor"] == golden.noise[kind][output].floor


def test_no_output_of_any_machine_travels(app: Embedding) -> None:
    """The noise ratio is computed where the app runs: what an artifact gave elsewhere is not there to be copied."""
    names = {path.name for path in (app.path / "golden").iterdir()}
    described = json.loads((app.path / "golden" / "golden.json").read_text())
    expected = {"golden.json"} | {card["path"] for card in described["cards"]}
    expected |= {card["pixels"]["path"] for card in described["cards"]}
    for samples in described["kinds"].values():
        expected |= {samples["input"]["path"]} | {entry["reference"]["path"] for entry in samples["outputs"].values()}
    assert names == expected
    assert "noise_ratio" not in json.dumps(described).replace("max_noise_ratio", "")


def test_sizes_are_those_on_the_disk(app: Embedding) -> None:
    assert sum(app.sizes_bytes.values()) == sum(path.stat().st_size for path in app.path.rglob("*") if path.is_file())
    assert app.sizes_bytes["model"] == (app.path / "model.onnx").stat().st_size
    assert app.to_json()["target"] == app.target.name


def test_the_same_bundle_gives_the_same_bytes(app: Embedding, shared_bundle: Bundle, tmp_path: Path) -> None:
    again = embed(shared_bundle, app.target.name, tmp_path / "again")
    for path in app.path.rglob("*"):
        if path.is_file():
            assert (again.path / path.relative_to(app.path)).read_bytes() == path.read_bytes(), path


@pytest.mark.parametrize("target", APPS)
def test_labels_and_title_are_in_no_source(target: str, shared_bundle: Bundle, tmp_path: Path) -> None:
    signature = shared_bundle.signature
    assert isinstance(signature, Signature)
    hostile = replace(shared_bundle, signature=replace(signature, labels=(*HOSTILE, "8", "9")))
    app = embed(hostile, target, tmp_path / "x", EmbedOptions(title=HOSTILE[2]))
    plain = embed(shared_bundle, target, tmp_path / "digits")
    described = json.loads((app.path / "model.json").read_text())
    assert tuple(described["signature"]["labels"][: len(HOSTILE)]) == HOSTILE
    assert described["title"] == HOSTILE[2]
    for path in plain.path.rglob("*"):
        relative = path.relative_to(plain.path)
        if path.is_file() and relative.name != "model.json":
            assert (app.path / relative).read_bytes() == path.read_bytes(), f"{relative} depends on labels"


@pytest.mark.parametrize(
    ("name", "expected"),
    [("Fashion v2", "fashion-v2"), ('";rm -rf /', "rm-rf"), ("日本", "model"), ("a_b.c", "a-b-c"), ("--x--", "x")],
)
def test_names_are_letters_digits_and_hyphens(name: str, expected: str) -> None:
    assert slug(name) == expected


def test_what_stands_there_is_not_lost(shared_bundle: Bundle, tmp_path: Path) -> None:
    out = tmp_path / "app"
    out.mkdir()
    embed(shared_bundle, "python", out)  # an empty folder will do
    (out / "mine.txt").write_text("kept")
    with pytest.raises(UsageError, match="--overwrite"):
        embed(shared_bundle, "python", out)
    assert (out / "mine.txt").is_file()
    embed(shared_bundle, "node", out, EmbedOptions(overwrite=True))
    assert (out / "package.json").is_file()
    assert not (out / "mine.txt").exists()
    for target in ("triton", "python"):
        embed(shared_bundle, target, out, EmbedOptions(overwrite=True))
    assert (out / "classifier.py").is_file()


def test_what_is_no_app_is_never_replaced(shared_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(UsageError, match="not an app of Onward"):
        embed(shared_bundle, "python", tmp_path, EmbedOptions(overwrite=True))
    with pytest.raises(UsageError, match="is a file"):
        embed(shared_bundle, "python", tmp_path / "thesis.tex", EmbedOptions(overwrite=True))
    assert (tmp_path / "thesis.tex").read_text() == "years"


def test_unknown_targets_name_those_that_are_there(shared_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="python, node, web, triton"):
        embed(shared_bundle, "rust", tmp_path / "x")
    assert set(TARGETS) == {"python", "node", "web", "triton"}


@pytest.mark.parametrize("target", [*APPS, "web"])
def test_a_model_of_tensors_is_for_servers(target: str, shared_bundle: Bundle, tmp_path: Path) -> None:
    signature = TensorSignature((Input("sequence", "float32", (7,)),), ("up", "down"))
    tensors = replace(shared_bundle, signature=signature)
    with pytest.raises(UsageError, match="triton"):
        embed(tensors, target, tmp_path / "x")


def test_a_page_loads_no_weights_from_beside_the_model(shared_bundle: Bundle, tmp_path: Path) -> None:
    beside = FileDigest("model.onnx.data", "0" * 64, 1)
    with pytest.raises(UsageError, match="external_data_above_bytes"):
        embed(replace(shared_bundle, files=(*shared_bundle.files, beside)), "web", tmp_path / "x")


def test_a_changed_bundle_makes_no_app(bundle: Bundle, tmp_path: Path) -> None:
    content = bytearray((bundle.path / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle.path / "model.onnx").write_bytes(content)
    with pytest.raises(BundleError, match="was changed"):
        embed(bundle, "python", tmp_path / "app")
    assert list(tmp_path.glob("*app*")) == []


@pytest.mark.parametrize("exif", ["ignore", "apply"])
def test_the_cards_are_what_onward_reads(shared_bundle: Bundle, tmp_path: Path, exif: str) -> None:
    """`onward predict` makes of them the very pixels that an app must make of them."""
    from onward.images.decode import read_image

    assert isinstance(shared_bundle.signature, Signature)
    signature = shared_bundle.signature.with_exif(exif)
    folder = tmp_path / "golden"
    write_golden_samples(replace(shared_bundle, signature=signature), shared_bundle.artifact("onnx"), folder)
    cards = {card["path"]: card for card in json.loads((folder / "golden.json").read_text())["cards"]}
    assert set(cards) == {"card.png", "transparent.png", "deep.png", "card.jpg", "turned.jpg"}
    for name, card in cards.items():
        expected = np.fromfile(folder / card["pixels"]["path"], np.uint8).reshape(signature.image_shape)
        np.testing.assert_array_equal(read_image(folder / name, signature), expected)
    assert cards["card.png"]["max_levels"] == cards["deep.png"]["max_levels"] == 0 < cards["card.jpg"]["max_levels"]
    turned, flat = (
        np.fromfile(folder / cards[name]["pixels"]["path"], np.uint8) for name in ("turned.jpg", "card.jpg")
    )
    assert (np.abs(turned.astype(int) - flat.astype(int)).mean() < 2) == (exif == "apply")
    deep = np.fromfile(folder / cards["deep.png"]["pixels"]["path"], np.uint8)
    assert (deep.min() < 20, deep.max() > 235) == (True, True)


def test_a_page_needs_onnxruntime_web(shared_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(UsageError, match="--download"):
        embed(shared_bundle, "web", tmp_path / "site")
    for strange in (tmp_path / "missing", tmp_path):
        with pytest.raises(UsageError, match="not the npm package"):
            embed(shared_bundle, "web", tmp_path / "site", EmbedOptions(browser_runtime=BrowserRuntime(strange)))
    assert not (tmp_path / "site").exists()


@pytest.fixture(scope="module")
def int8() -> Bundle:
    return Bundle.open(path_of(DIGITS_INT8))


@pytest.mark.parametrize("target", [*APPS, "triton"])
def test_an_artifact_of_lower_precision_is_embedded_by_name(target: str, int8: Bundle, tmp_path: Path) -> None:
    artifact = int8.artifact("onnx-int8")
    app = embed(int8, target, tmp_path / "app", EmbedOptions(artifact="onnx-int8"))
    described = json.loads((app.path / "model.json").read_text())
    content = (app.path / described["model"]["path"]).read_bytes()
    assert hashlib.sha256(content).hexdigest() == described["model"]["sha256"] == artifact.file.sha256
    assert app.sizes_bytes["model"] == artifact.file.size_bytes
    assert artifact.fidelity is not None
    assert (described["precision"], described["fidelity"]) == ("int8", artifact.fidelity.to_json())
    assert len(list(app.path.rglob("*.onnx"))) == 1
    plain = embed(int8, target, tmp_path / "plain")
    assert json.loads((plain.path / "model.json").read_text())["model"]["sha256"] == int8.artifact("onnx").file.sha256
    assert "precision" not in json.loads((plain.path / "model.json").read_text())


def test_its_golden_samples_are_what_was_recorded(int8: Bundle, tmp_path: Path) -> None:
    app = embed(int8, "python", tmp_path / "app", EmbedOptions(artifact="onnx-int8"))
    document = json.loads((app.path / "golden" / "golden.json").read_text())
    record = LowerPrecisionRecord.read(int8, int8.artifact("onnx-int8"))
    assert (document["precision"], document["max_deviation_ratio"]) == ("int8", 2)
    for kind, samples in document["kinds"].items():
        for output, entry in samples["outputs"].items():
            assert set(entry) == {"recorded", "quantization_error"}
            found = np.fromfile(app.path / "golden" / entry["recorded"]["path"], "<f4")
            np.testing.assert_array_equal(found, record.recorded[kind][output].ravel())
            assert entry["quantization_error"] == record.errors[kind][output]


def test_only_onnx_files_that_are_there_are_embedded(shared_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="an app runs an ONNX file, and the artifact 'torchscript' is torchscript"):
        embed(shared_bundle, "python", tmp_path / "x", EmbedOptions(artifact="torchscript"))
    with pytest.raises(BundleError, match="has no artifact 'onnx-int8'"):
        embed(shared_bundle, "python", tmp_path / "x", EmbedOptions(artifact="onnx-int8"))
    assert list(tmp_path.iterdir()) == []
