"""Artifacts are opened in a fresh process: a crash there is a sentence, and what an artifact requires is found."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from networks import SIGNATURE, Plain
from torch import Tensor, nn

import onward_export.opening.process
import onward_export.publish
from onward.bundle import Bundle
from onward.bundle.verification import verify
from onward.errors import BackendError, BundleError, NotExportable, ParityFailure
from onward.signature import Input, Signature, TensorSignature
from onward_export.commands import print_bundle
from onward_export.model_to_export import ModelToExport
from onward_export.opening import ArtifactProcess, OpenedArtifact
from onward_export.options import ExportOptions
from onward_export.publish import publish

PROCESS = "onward_export.opening.process"
PLAIN = ModelToExport(Plain(), SIGNATURE)


def planted(backend: str, does: str) -> str:
    """The program of the process, with a backend that does something else when it runs."""
    return (
        "import os, signal, sys, time\n"
        f"import onward.backends.{backend.partition(':')[0]} as module\n"
        f"module.{backend.partition(':')[2]}.infer = lambda *arguments: {does}\n"
        "from onward_export.opening.worker import main; main(sys.argv[1:])"
    )


ONNX = "onnxruntime_backend:SessionBackend"
TORCHSCRIPT = "torch_backend:TorchScriptBackend"


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[ArtifactProcess]:
    """A process whose onnxruntime does what the test says; after a restart it is sound."""
    with monkeypatch.context() as patch:
        patch.setattr(f"{PROCESS}.PROGRAM", planted(ONNX, request.param))
        started = ArtifactProcess(["onnx"])
    with started:
        yield started


def open_onnx(process: ArtifactProcess, bundle: Bundle) -> OpenedArtifact:
    return process.open("onnx", bundle.path / "model.onnx", bundle.signature)


@pytest.mark.parametrize(
    ("process", "match"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", r"onnxruntime crashed when it ran model\.onnx \(SIGSEGV\)"),
        ("os.abort()", r"onnxruntime crashed when it ran model\.onnx \(SIGABRT\)"),
        ("os._exit(3)", r"onnxruntime crashed when it ran model\.onnx \(exit code 3\)"),
        ("os.kill(os.getpid(), signal.SIGKILL)", r"the system ended onnxruntime .* most likely for its memory"),
        ("time.sleep(60)", r"onnxruntime did not answer for 0\.5 s when it ran model\.onnx, and was ended"),
    ],
    ids=["segmentation fault", "abort", "exit", "kill", "hang"],
    indirect=["process"],
)
def test_a_crash_is_a_sentence_and_the_next_artifact_opens(
    process: ArtifactProcess, match: str, shared_bundle: Bundle, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = open_onnx(process, shared_bundle)
    with monkeypatch.context() as patch:
        patch.setattr(f"{PROCESS}.MAX_SILENCE_S", 0.5 if "0" in match and "answer" in match else 60)
        with pytest.raises(BackendError, match=match):
            opened.run(pixels)
    assert set(open_onnx(process, shared_bundle).run(pixels)) == {"logits", "probabilities"}


@pytest.mark.parametrize("process", ["1 / ('torch' in sys.modules)"], indirect=True)
def test_an_error_is_no_crash_and_onnx_alone_does_not_import_torch(
    process: ArtifactProcess, shared_bundle: Bundle, pixels: np.ndarray
) -> None:
    with pytest.raises(BackendError, match=r"^the model does not run on onnx \(CPU\): division by zero$"):
        open_onnx(process, shared_bundle).run(pixels)


def test_a_file_that_is_no_model_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with ArtifactProcess(["onnx"]) as process, pytest.raises(BackendError, match="cannot open the ONNX file"):
        process.open("onnx", tmp_path / "model.onnx", SIGNATURE)


# Formats that fail


@pytest.fixture(scope="module")
def partial(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle of ONNX alone: TorchScript crashes, and .pt2 cannot be written."""

    def write_pt2(*arguments: object) -> None:
        raise KeyError("no such operator in /home/me/secret/net.py")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"{PROCESS}.PROGRAM", planted(TORCHSCRIPT, "os.abort()"))
        patch.setattr(onward_export.publish, "write_pt2", write_pt2)
        return publish(PLAIN, tmp_path_factory.mktemp("partial") / "plain")


def test_what_passes_is_published_and_the_rest_has_a_row_with_its_reason(partial: Bundle) -> None:
    assert [item.name for item in partial.artifacts] == ["onnx"]
    parity = partial.parity()
    assert parity["passed"]
    assert [(item["format"], item["outcome"]) for item in parity["not_published"]] == [
        ("pt2", "cannot be made"),
        ("torchscript", "does not run"),
    ]
    pt2, torchscript = (item["reason"] for item in parity["not_published"])
    assert pt2 == "the exporter ended with KeyError: 'no such operator in net.py'."
    assert "PyTorch crashed when it ran model.torchscript (SIGABRT)" in torchscript
    page = (partial.path / "parity.html").read_text()
    assert "Formats that are not published" in page
    assert "(SIGABRT)" in page
    assert not list(partial.path.glob("model.torchscript*"))


def test_a_bundle_without_a_format_is_verified_and_says_which_formats_it_has(
    partial: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert [(item.artifact, item.passed) for item in verify(partial)] == [("onnx", True)]
    with pytest.raises(BundleError, match=r"has no artifact 'pt2'; it has onnx\."):
        partial.artifact("pt2")
    print_bundle(partial)
    printed = capsys.readouterr().out
    assert "not published: pt2 cannot be made. the exporter ended with KeyError" in printed
    assert "Without pt2, torchscript." in printed


def test_a_format_that_was_asked_for_by_name_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def write_onnx(*arguments: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(onward_export.publish, "write_onnx", write_onnx)
    with pytest.raises(NotExportable, match="the exporter ended with RuntimeError: no such operator"):
        publish(PLAIN, tmp_path / "plain", options=ExportOptions(formats=("onnx",)))
    assert list(tmp_path.iterdir()) == []


class Branching(Plain):
    """A trace records one branch: the other is for images that the gate does not have."""

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image if image.max() < 1e6 else -image)


def test_nothing_is_published_where_no_format_passes_and_a_branch_is_not_traced(tmp_path: Path) -> None:
    with pytest.raises(NotExportable, match=r"no format passes.* onnx, pt2, torchscript: the model's control flow"):
        publish(ModelToExport(Branching(), SIGNATURE), tmp_path / "plain")
    assert list(tmp_path.iterdir()) == []


# What an artifact requires


class Suppressing(nn.Module):
    """Uses an operator that torchvision registers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(12, 4)

    def forward(self, image: Tensor) -> Tensor:
        from torchvision.ops import roi_align

        boxes = torch.tensor([[0.0, 0.0, 7.0, 7.0]], dtype=image.dtype).expand(image.shape[0], 4)
        at = torch.arange(image.shape[0], dtype=image.dtype)[:, None]
        return self.head(roi_align(image, torch.cat([at, boxes], 1), (3, 4)).flatten(1))


@pytest.fixture(scope="module")
def requiring(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle whose artifacts need torchvision."""
    out = tmp_path_factory.mktemp("requiring") / "aligned"
    return publish(ModelToExport(Suppressing(), SIGNATURE), out, options=ExportOptions(formats=("torchscript", "pt2")))


def test_what_an_artifact_requires_is_in_the_manifest_and_is_said(
    requiring: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = json.loads((requiring.path / "manifest.json").read_text())
    assert [item["requires"] for item in manifest["artifacts"]] == [["torchvision"], ["torchvision"]]
    print_bundle(requiring)
    assert "model.pt2 needs torchvision where it runs, beside PyTorch." in capsys.readouterr().out
    results = verify(requiring)
    assert [(item.passed, item.skipped, item.requires) for item in results] == [(True, "", ("torchvision",))] * 2


def test_without_the_library_the_artifact_is_skipped_and_an_error_says_what_to_install(
    requiring: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "torchvision" else object())
    assert [item.skipped for item in verify(requiring)] == ["torchvision is not installed"] * 2
    with pytest.raises(BackendError, match=r"requires torchvision, .*: `pip install 'onward\[training\]'` adds it"):
        verify(requiring, artifacts=["pt2"])


# Kinds


class Bags(nn.Module):
    """Its graph, before it is simplified, crashes onnxruntime."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.bag, self.head = nn.EmbeddingBag(50, 8), nn.Linear(8, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(torch.tanh(self.bag(ids)))


class OwnBuffers(Plain):
    """Buffers, of floats and of integers, that are in no state_dict; and a tensor that is no buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.rand(64), persistent=False)
        self.register_buffer("order", torch.randperm(64), persistent=False)
        self.shift = torch.rand(64)

    def forward(self, image: Tensor) -> Tensor:
        pixels = image.flatten(1)[:, self.order] * self.scale + self.shift.to(image.dtype)
        return super().forward(pixels)


KINDS: dict[str, tuple[nn.Module, Signature | TensorSignature, dict[str, Any]]] = {
    "embedding bag": (
        Bags(),
        TensorSignature((Input("ids", "int64", (6,), (0, 49)),), ("a", "b", "c")),
        {"formats": ("onnx",)},
    ),
    "buffers that are not persistent": (OwnBuffers(), SIGNATURE, {"formats": ("torchscript", "pt2")}),
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_sound_model_of_every_kind_passes(kind: str, tmp_path: Path) -> None:
    network, signature, options = KINDS[kind]
    bundle = publish(ModelToExport(network, signature), tmp_path / "bundle", options=ExportOptions(**options))
    assert [item.name for item in bundle.artifacts] == list(options["formats"])


@pytest.mark.parametrize("format", ["torchscript", "pt2"])
def test_a_changed_buffer_that_is_not_persistent_closes_the_gate(
    format: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    check = onward_export.publish.check_artifact

    def change_and_check(path: Path, *arguments: Any, **options: Any) -> object:
        reference = arguments[1]
        for buffers in (reference.buffers, reference.program.constants if reference.program else {}):
            name = next((name for name in buffers if name.endswith("order")), None)
            if name:
                buffers[name] = buffers[name].roll(1)
        return check(path, *arguments, **options)

    monkeypatch.setattr(onward_export.publish, "check_artifact", change_and_check)
    with pytest.raises(ParityFailure, match=r"model\.order: 64 of 64 values differ"):
        publish(ModelToExport(OwnBuffers(), SIGNATURE), tmp_path / "bundle", options=ExportOptions(formats=(format,)))
