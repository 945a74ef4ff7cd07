"""A bundle is written whole or not at all, its bytes repeat, and it names no machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from onward.bundle import Bundle
from onward.bundle.bill_of_materials import BILL_OF_MATERIALS, bill_text
from onward.errors import NotExportable, OutputError, UsageError
from onward.signature import Signature
from onward_export.model_to_export import ModelToExport
from onward_export.options import FORMATS, ExportOptions
from onward_export.publish import publish
from onward_training.checkpoint import Checkpoint

from networks import RGB, SIGNATURE, FixedBatch, NanWeight, Plain, Residual  # isort: skip

pytestmark = pytest.mark.long
ROOT = Path(__file__).parents[2]
CHECKED_OUT = ("runtime", "training", "export")


def members(path: Path) -> Iterator[tuple[str, bytes]]:
    """Every file below a folder, and every member of every zip among them, decompressed."""
    for file in sorted(path.rglob("*")):
        if file.is_file():
            yield file.name, file.read_bytes()
            if zipfile.is_zipfile(file):
                with zipfile.ZipFile(file) as archive:
                    for name in archive.namelist():
                        yield f"{file.name}/{name}", archive.read(name)


def export_in(folder: Path, checkpoint_path: Path) -> Path:
    """Export in a checkout of its own, in a process of its own.

    It imports PyTorch anew: no fork could import Onward from another folder.
    """
    folder.mkdir(parents=True)
    for name in CHECKED_OUT:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, folder / name)
    shutil.copy(checkpoint_path, folder / "some-checkpoint.pt")
    subprocess.run(
        [sys.executable, "-m", "onward_export", "export", "some-checkpoint.pt", "--out", "bundle", "--json"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(str(folder / name) for name in CHECKED_OUT)},
        check=True,
        capture_output=True,
    )
    return folder / "bundle"


def test_two_checkouts_in_two_folders_give_the_same_bytes_and_name_no_machine(
    checkpoint_path: Path, shared_bundle: Bundle, tmp_path: Path
) -> None:
    """This checkout made the shared bundle, by a call in Python; the other one makes its own, by a command."""
    one = dict(members(export_in(tmp_path / "another" / "secret", checkpoint_path)))
    other = dict(members(shared_bundle.path))
    assert one.keys() == other.keys()
    assert [name for name in one if one[name] != other[name]] == []
    forbidden = [b"secret", str(tmp_path).encode(), str(ROOT).encode()]
    if len(os.uname().nodename) > 4:  # a shorter name turns up in random bytes
        forbidden.append(os.uname().nodename.encode())
    forbidden += [b"/home/", b"/root/", b"/tmp/", b"site-packages", b"some-checkpoint", sys.prefix.encode()]
    found = [(name, word) for name, data in one.items() for word in forbidden if word in data]
    assert found == []


def test_real_samples_travel_where_the_data_set_is_public(shared_bundle: Bundle) -> None:
    assert len(shared_bundle.golden().inputs["real"]) == 32
    assert len(shared_bundle.golden().inputs["random"]) >= 8


def test_somebody_s_pictures_do_not_travel_unless_they_say_so(tmp_path: Path, digits) -> None:
    source = ModelToExport(Plain(), Signature(8, 8, 1, (0.3,), (0.4,), ("a", "b", "c", "d")), digits.test.images)
    bundle = publish(source, tmp_path / "private", options=ExportOptions(formats=("onnx",)))
    assert "real" not in bundle.golden().inputs
    assert "real" in {row["kind"] for row in bundle.parity()["artifacts"][0]["comparisons"]}


def test_model_onnx_alone_says_what_it_takes_and_gives(shared_bundle: Bundle) -> None:
    model = onnx.load(shared_bundle.path / "model.onnx")
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert Signature.from_json(json.loads(metadata["onward.signature"])) == shared_bundle.signature
    assert {"onward.labels", "onward.provenance"} <= metadata.keys()
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert [output.name for output in model.graph.output] == ["logits", "probabilities"]


def test_a_refused_model_leaves_the_earlier_bundle_untouched(tmp_path: Path) -> None:
    bundle = publish(ModelToExport(Plain(), SIGNATURE), tmp_path / "model", options=ExportOptions(formats=("onnx",)))
    before = dict(members(bundle.path))
    with pytest.raises(NotExportable):
        publish(ModelToExport(NanWeight(), SIGNATURE), tmp_path / "model", options=ExportOptions(formats=("onnx",)))
    assert dict(members(bundle.path)) == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_new_bundle_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    old = publish(ModelToExport(Plain(), SIGNATURE), tmp_path / "model", options=ExportOptions(formats=("onnx", "pt2")))
    options = ExportOptions(formats=("onnx",), bill_of_materials=True)
    new = publish(ModelToExport(Residual(), RGB), tmp_path / "model", options=options)
    assert (old.signature, new.signature) == (SIGNATURE, RGB)
    assert not (tmp_path / "model" / FORMATS["pt2"]).exists()
    assert (new.path / BILL_OF_MATERIALS).read_text() == bill_text(new)
    new.check()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_is_no_bundle_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("all of it")
    with pytest.raises(UsageError, match="is not a bundle, so it is not replaced"):
        publish(ModelToExport(Plain(), SIGNATURE), tmp_path / "thesis", options=ExportOptions(formats=("onnx",)))


def test_an_unknown_format_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="onnx, torchscript, pt2"):
        publish(ModelToExport(Plain(), SIGNATURE), tmp_path / "model", options=ExportOptions(formats=("tflite",)))


def test_a_model_that_fixes_the_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NotExportable, match="batch"):
        publish(ModelToExport(FixedBatch(), SIGNATURE), tmp_path / "model", options=ExportOptions(formats=("onnx",)))


def test_a_place_that_cannot_be_written_is_an_error_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="could not be written"):
        publish(
            ModelToExport(Plain(), SIGNATURE), tmp_path / "file" / "model", options=ExportOptions(formats=("onnx",))
        )


def test_the_caller_s_network_is_left_as_it_was(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 4)).train()
    weights = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    publish(ModelToExport(network, SIGNATURE), tmp_path / "model", options=ExportOptions(formats=("onnx",)))
    assert all(module.training for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(tensor, weights[name]) for name, tensor in network.state_dict().items())


def test_a_class_of_nobody_s_module_is_traced_too(tmp_path: Path) -> None:
    class Local(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(64, 4)

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.linear(image.flatten(1))

    bundle = publish(
        ModelToExport(Local(), SIGNATURE), tmp_path / "local", options=ExportOptions(formats=("torchscript",))
    )
    assert bundle.artifact("torchscript").noise_ratio <= 3


def test_torch_alone_can_load_what_was_rewritten(shared_bundle: Bundle, pixels: np.ndarray) -> None:
    images = torch.tensor(pixels)
    program = torch.export.load(shared_bundle.path / "model.pt2")
    script = torch.jit.load(shared_bundle.path / "model.torchscript")
    for one, other in zip(program.module()(images), script(images), strict=True):
        torch.testing.assert_close(one, other)


def test_the_checkpoint_s_own_data_missing_is_said_aloud(
    checkpoint: Checkpoint, capsys: pytest.CaptureFixture[str]
) -> None:
    from dataclasses import replace

    source = ModelToExport.from_checkpoint(replace(checkpoint, data="folder:/nowhere"))
    assert source.real_samples is None
    assert source.num_golden_real == 0
    assert "the gate has no real samples" in capsys.readouterr().err


PT2_ONLY = ExportOptions(formats=("pt2",))


def test_the_gate_uses_few_samples_where_its_verdict_is_certain(tmp_path: Path) -> None:
    stages: list[str] = []
    bundle = publish(ModelToExport(Plain(), SIGNATURE), tmp_path / "few", options=PT2_ONLY, on_stage=stages.append)
    assert stages == ["reference in float64", "torch.export", ".pt2", "parity gate"]
    method = bundle.parity()["method"]
    assert method["samples"].startswith("8 of each kind. The verdict is certain")
    assert method["memory_formats"] == ["contiguous"]
    assert method["memory_formats_left_out"] == {"channels_last": "no weight has four dimensions"}
    assert {kind: len(feed) for kind, feed in bundle.golden().inputs.items()} == {"random": 8, "constant": 5}
    page = (bundle.path / "parity.html").read_text(encoding="utf-8")
    assert "Number of samples: 8 of each kind. The verdict is certain" in page
    assert "channels_last is left out: no weight has four dimensions." in page


def test_the_gate_adds_samples_until_its_verdict_is_certain_or_there_are_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onward.parity.CERTAINLY_PASSED", 0.0)
    stages: list[str] = []
    bundle = publish(
        ModelToExport(Plain(), SIGNATURE),
        tmp_path / "more",
        options=PT2_ONLY,
        num_samples=20,
        on_stage=stages.append,
    )
    assert stages[2:] == [".pt2", *["parity gate", "reference in float64"] * 2, "parity gate"]
    parity = bundle.parity()
    assert parity["method"]["samples"] == "20 of each kind, as many as there are"
    rows = parity["artifacts"][0]["comparisons"]
    assert {row["kind"]: row["num_samples"] for row in rows} == {"random": 20, "constant": 5}
    assert len(bundle.golden().inputs["random"]) == 20


def test_a_thorough_export_uses_all_samples_at_once(tmp_path: Path) -> None:
    stages: list[str] = []
    options = ExportOptions(formats=("pt2",), thorough=True)
    bundle = publish(
        ModelToExport(Plain(), SIGNATURE), tmp_path / "all", options=options, num_samples=40, on_stage=stages.append
    )
    assert stages.count("parity gate") == 1
    rows = bundle.parity()["artifacts"][0]["comparisons"]
    assert {row["kind"]: row["num_samples"] for row in rows} == {"random": 40, "constant": 5}
