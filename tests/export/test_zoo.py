"""The zoo on a small scale: families of torchvision under the gate, and a campaign that goes on where it stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
import timm
import torch
import typer
from onnx import numpy_helper
from torch import nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.mobilenetv3 import InvertedResidualConfig
from torchvision.models.resnet import BasicBlock
from torchvision.models.swin_transformer import PatchMergingV2, SwinTransformerBlockV2
from typer.testing import CliRunner

from benchmarks.zoo.__main__ import main
from benchmarks.zoo.alive import make_alive
from benchmarks.zoo.bare import culprit
from benchmarks.zoo.campaign import Plan, read, run
from benchmarks.zoo.member import members
from benchmarks.zoo.page import page
from benchmarks.zoo.source import Member
from onward.errors import NotExportable
from onward.signature import Signature
from onward_export.deployable import Deployable
from onward_export.formats.onnx_file import write_onnx
from onward_export.formats.program import export_program
from onward_export.model_to_export import ModelToExport
from onward_export.options import ExportOptions
from onward_export.publish import publish
from onward_export.reference import make_reference
from onward_export.reference.samples import gather_samples
from onward_export.weights.account import check_onnx
from tests.forks import CAN_FORK, ModuleByFork

pytestmark = pytest.mark.long

SIGNATURE = Signature(32, 32, 3, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), ("zero", "one", "two", "three"))
CHEAP = 0.008  # 1e9 multiply-adds: SqueezeNet on 32 pixels; it has the fewest nodes of all
SQUEEZENET = "squeezenet1_1"


def small_resnet() -> nn.Module:
    return models.ResNet(BasicBlock, [1, 1, 1, 1], num_classes=4)


def small_mobilenet() -> nn.Module:
    rows = ((16, 3, 16, 16, True, "RE", 2), (16, 3, 72, 24, False, "RE", 2), (24, 5, 96, 24, True, "HS", 1))
    return models.MobileNetV3([InvertedResidualConfig(*row, 1, 1.0) for row in rows], last_channel=64, num_classes=4)


def small_vit() -> nn.Module:
    return models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=4
    )


def small_swin(depths: Sequence[int] = (2, 1)) -> nn.Module:
    """Version 2, which has all of version 1 and a relative position bias that it computes."""
    later = {"block": SwinTransformerBlockV2, "downsample_layer": PatchMergingV2}
    return models.SwinTransformer(
        patch_size=[2, 2], embed_dim=8, depths=[*depths], num_heads=[2, 2], window_size=[4, 4], num_classes=4, **later
    )


def small_convnext() -> nn.Module:
    return models.ConvNeXt([CNBlockConfig(8, 16, 1), CNBlockConfig(16, None, 1)], num_classes=4)


FAMILY: dict[str, Callable[[], nn.Module]] = {
    "resnet": small_resnet,
    "mobilenet_v3": small_mobilenet,
    "squeezenet1_1": lambda: models.squeezenet1_1(num_classes=4),
    "vit": small_vit,
    "swin_v2": small_swin,
    "convnext": small_convnext,
}
DEAD: dict[str, Callable[[], nn.Module]] = {
    "vit": small_vit,
    "mobilenet_v3_small": lambda: models.mobilenet_v3_small(num_classes=4),
}


def alive(build: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    network = build()
    make_alive(network, SIGNATURE)
    return network


@pytest.mark.parametrize("name", FAMILY)
def test_a_small_member_of_each_family_passes_the_gate(name: str, tmp_path: Path) -> None:
    bundle = publish(
        ModelToExport(alive(FAMILY[name]), SIGNATURE),
        tmp_path / name,
        options=ExportOptions(formats=("onnx",)),
        num_samples=4,
    )
    assert bundle.parity()["passed"]


@pytest.mark.parametrize("name", DEAD)
def test_plain_random_weights_are_refused_as_dead_and_made_alive(name: str) -> None:
    samples = gather_samples(SIGNATURE, None, num_samples=4)
    torch.manual_seed(0)
    with pytest.raises(NotExportable, match="does not depend on the input"):
        make_reference(Deployable(DEAD[name](), SIGNATURE), samples, SIGNATURE)
    make_reference(Deployable(alive(DEAD[name]), SIGNATURE), samples, SIGNATURE)


def test_no_parameter_of_a_live_network_is_one_number_throughout_and_the_same_seed_gives_the_same() -> None:
    one, other = alive(FAMILY["convnext"]), alive(FAMILY["convnext"])
    for name, parameter in one.named_parameters():
        assert parameter.numel() == 1 or parameter.min() != parameter.max(), name
        assert torch.equal(parameter, other.get_parameter(name))
    assert not any(module.training for module in one.modules())


def test_what_the_exporter_computes_of_weights_in_advance_is_accounted_for_and_held(tmp_path: Path) -> None:
    deployable = Deployable(alive(lambda: small_swin(depths=[2])), SIGNATURE)
    program = export_program(deployable, SIGNATURE)
    path = tmp_path / "swin.onnx"
    write_onnx(program, path, SIGNATURE, {})
    sound = check_onnx(path, deployable.state_dict(), program)
    assert sound.passed
    assert any("computed from weights alone" in fold for fold in sound.all_by("folded"))
    model = onnx.load(path)
    computed = [
        tensor
        for tensor in model.graph.initializer
        if tensor.name not in deployable.state_dict() and tensor.data_type == onnx.TensorProto.FLOAT and tensor.dims
    ]
    assert computed
    for tensor in computed:
        array = numpy_helper.to_array(tensor).copy()
        array.reshape(-1)[0] += 1e-3 * (np.abs(array).max() or 1.0)
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    onnx.save(model, path)
    assert len(check_onnx(path, deployable.state_dict(), program).unexplained) == len(computed)


def squeezenet() -> Member:
    return next(member for member in members(["torchvision"], max_gmacs=CHEAP) if member.name == SQUEEZENET)


def test_every_builder_is_a_member_the_cheapest_first_and_the_hugest_are_left_out_with_the_reason() -> None:
    zoo = members(["torchvision"])
    assert sorted(member.name for member in zoo) == sorted(models.list_models(module=models))
    assert [member.gmacs for member in zoo] == sorted(member.gmacs for member in zoo)
    assert {member.name for member in zoo if member.left_out} == {"vit_h_14", "regnet_y_128gf"}
    assert all(member.side == member.native_side or member.native_side > 200 for member in zoo)
    assert "left out: 633 million parameters" in page(zoo, {})


def test_at_least_200_networks_of_timm_are_members_of_all_its_families() -> None:
    zoo = members(["timm"])
    assert len({member.name for member in zoo}) == len(zoo) >= 200
    assert {member.family for member in zoo} == set(timm.list_modules())
    assert {member.name for member in zoo} <= set(timm.list_models())
    assert all(member.side <= member.native_side for member in zoo)


@pytest.mark.parametrize(
    ("bare", "expected"),
    [
        ({"step": "torch.onnx.export", "error": "an operator is missing"}, "torch.onnx.export"),
        ({"step": "ratio", "error": "it does not open"}, "onnxruntime"),
        ({"step": "end", "ratio": 40.0, "ratio_plain": 1.0}, "onnxruntime"),
        ({"step": "end", "ratio": 40.0, "ratio_plain": 40.0, "ratio_reference": 1.0}, "onnxruntime"),
        ({"step": "end", "ratio": 40.0, "ratio_plain": 40.0, "ratio_reference": 40.0}, "torch.onnx.export"),
        ({"step": "end", "ratio": 0.9}, "Onward"),
        ({"step": "end", "ratio": 0.9, "own_error": 0.1}, "PyTorch's own error"),
    ],
)
def test_a_bare_export_shows_what_is_wrong(bare: dict[str, Any], expected: str) -> None:
    assert culprit(bare) == expected


def test_the_page_keeps_a_section_that_has_more_results_and_the_sections_of_other_libraries() -> None:
    member = squeezenet()
    failed = {"outcome": "failed", "reason": "it crashed."}
    before = page([member], {member: failed})
    other = Member("resnet10t", 64, 224, 0.1, 5_000_000, "timm", "resnet")
    reason = dict.fromkeys(("onnx", "torchscript"), "it | is unknown")
    refused = {"outcome": "refused", "reason": reason, "culprit": "onnxruntime", "bare": {"ratio": 40.0}}
    after = page([member, other], {other: refused}, before)
    assert f"| {SQUEEZENET} | all | failed: it crashed." in after
    assert "| resnet10t | ONNX, TorchScript | it \\| is unknown | **onnxruntime**: onnxruntime 40.00 |" in after
    assert page([member], {member: failed}, after) == after


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process of a member is a fork of one that has imported PyTorch, where there are forks."""
    if CAN_FORK:
        processes = {name: getattr(subprocess, name) for name in ("PIPE", "DEVNULL", "TimeoutExpired")}
        stand_in = SimpleNamespace(Popen=ModuleByFork, **processes)
        monkeypatch.setattr("benchmarks.zoo.campaign.subprocess", stand_in)


@pytest.mark.usefixtures("forked")
def test_a_finished_member_stands_on_the_page_and_is_not_run_again(tmp_path: Path) -> None:
    command = typer.Typer()
    command.command()(main)
    arguments = ["--library", "torchvision", "--only", SQUEEZENET, "--max-gmacs", str(CHEAP), "--jobs", "1"]
    arguments += ["--out", str(tmp_path), "--docs", str(tmp_path)]
    before = signal.getsignal(signal.SIGTERM)
    try:
        campaign = CliRunner().invoke(command, arguments)
    finally:
        signal.signal(signal.SIGTERM, before)  # it puts one of its own there
    assert campaign.exit_code == 0, campaign.exception
    assert f"{SQUEEZENET}: passed" in campaign.stderr
    path, told = tmp_path / "torchvision" / f"{SQUEEZENET}.json", list[str]()
    artifacts = json.loads(path.read_text())["artifacts"]
    assert {artifact["name"] for artifact in artifacts} == {"onnx", "torchscript", "pt2"}
    assert f"| {SQUEEZENET} | 1.2 M | 32 (native 224) |" in (tmp_path / "zoo.md").read_text()
    assert (tmp_path / "zoo-torchvision.svg").read_text().startswith("<svg")
    before = path.stat().st_mtime_ns
    run([squeezenet()], Plan(tmp_path), tell=told.append)
    assert (path.stat().st_mtime_ns, told) == (before, [])
    run([squeezenet()], Plan(tmp_path, budget_s=0, again=(SQUEEZENET,)), tell=told.append)
    assert told[0].startswith(f"{SQUEEZENET}: skipped, ")
    assert path.stat().st_mtime_ns == before


def test_a_member_that_does_not_end_says_so_and_is_tried_again(tmp_path: Path) -> None:
    member, told = squeezenet(), list[str]()
    for attempt in (1, 2):
        run([member], Plan(tmp_path, timeout_s=1), tell=told.append)
        row = read(tmp_path, [member])[member]
        assert (row["outcome"], row["reason"]) == ("failed", "stopped after the time limit of 1 s.")
        assert len(told) == attempt
    assert f"| {SQUEEZENET} | all | failed: stopped after the time limit of 1 s" in page([member], {member: row})


@pytest.mark.skipif(not Path("/proc").exists(), reason="the process is found in /proc")
def test_a_member_whose_process_is_killed_says_so(tmp_path: Path) -> None:
    killer = threading.Thread(target=kill_the_process_that_names, args=(str(tmp_path),))
    killer.start()
    run([squeezenet()], Plan(tmp_path))
    killer.join()
    row = read(tmp_path, [squeezenet()])[squeezenet()]
    assert row["outcome"] == "failed"
    assert row["reason"].startswith("its process was ended by SIGKILL")


@pytest.mark.usefixtures("forked")
def test_a_member_that_cannot_be_built_says_why(tmp_path: Path) -> None:
    wrong = replace(squeezenet(), name="resnet19")
    run([wrong], Plan(tmp_path))
    row = read(tmp_path, [wrong])[wrong]
    assert row["outcome"] == "failed"
    assert "exit code 1" in row["reason"]
    assert "no classification network 'resnet19'" in row["reason"]


def test_results_of_other_code_or_settings_do_not_count(tmp_path: Path) -> None:
    member = squeezenet()
    run([member], Plan(tmp_path, timeout_s=0))
    assert read(tmp_path, [replace(member, side=64)]) == {}
    path = tmp_path / "torchvision" / f"{SQUEEZENET}.json"
    path.write_text(path.read_text().replace('"settings": "', '"settings": "0'))
    assert read(tmp_path, [member]) == {}
    path.write_text("{")
    assert read(tmp_path, [member]) == {}


def kill_the_process_that_names(path: str) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                command = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"benchmarks.zoo.member" in command and path.encode() in b"\0".join(command):
                os.kill(int(process.name), signal.SIGKILL)
                return
        time.sleep(0.02)
