"""Rule 1: a model is fit to be a reference, or is refused with the operator or module named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from onward.bundle.golden import GoldenRecord
from onward.errors import NotExportable
from onward.parity import CONSTANT, MIN_FLOOR_ULPS
from onward.tasks.classification import LOGITS, OUTPUTS, PROBABILITIES
from onward_export.deployable import Deployable
from onward_export.reference import make_reference
from onward_export.reference.samples import gather_samples

from networks import (  # isort: skip
    RGB,
    SIGNATURE,
    Attention,
    AutocastInside,
    Cancelling,
    DividesByZero,
    HalfInside,
    LiveFunctionalDropout,
    NanWeight,
    OnlyFloat32,
    Plain,
    Residual,
    StubbornDropout,
    WithModule,
    ZeroHead,
)


def reference_of(network: nn.Module, signature=SIGNATURE) -> GoldenRecord:
    return make_reference(
        Deployable(network, signature), gather_samples(signature, None, num_samples=32), signature
    ).record


@pytest.mark.parametrize(
    ("network", "named"),
    [
        (LiveFunctionalDropout(), r"two runs .* differ, first at aten\.\S*(dropout|bernoulli)\S* in model"),
        (WithModule(StubbornDropout(0.5)), r"two runs .* differ, first at .* in model\.3"),
        (WithModule(nn.BatchNorm1d(16, track_running_stats=False)), r"batch.*in model\.3|batch of size 1"),
        (NanWeight(), r"model\.3\.weight are NaN"),
        (AutocastInside(), r"aten\.to in model\.1 \(networks\.py:.*\) computes in bfloat16, which changes logits"),
        (HalfInside(), r"aten\.to in model \(networks\.py:.*\) computes in float16, which changes logits"),
        (ZeroHead(), r"does not depend on the input"),
        (Cancelling(), r"ill-conditioned"),
        (DividesByZero(), r"NaN or infinite.*aten\.div in model"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_a_model_that_can_be_no_reference_is_refused_and_the_place_is_named(network: nn.Module, named: str) -> None:
    with pytest.raises(NotExportable, match=named):
        reference_of(network)


class Alternating(Plain):
    """Every second call gives logits that are one unit in the last place larger."""

    def __init__(self) -> None:
        super().__init__()
        self.num_calls = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.num_calls += 1
        return super().forward(image) * (1 + self.num_calls % 2 * torch.finfo(torch.float32).eps)


def test_two_runs_that_differ_by_one_unit_in_the_last_place_are_refused() -> None:
    with pytest.raises(NotExportable, match=r"two runs of the model in eval mode differ, first at aten\.mul in model"):
        reference_of(Alternating())


def test_batch_norm_without_running_statistics_is_named_where_a_batch_of_one_runs() -> None:
    network = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), *Plain())
    with pytest.raises(NotExportable, match=r"depends on the other samples of its batch, first at .*model\.0"):
        reference_of(network)


@pytest.mark.parametrize("network", [Plain(), Attention()], ids=["plain", "attention"])
def test_the_reference_is_float64_and_the_noise_is_that_of_float32(network: nn.Module) -> None:
    record = reference_of(network)
    for kind in record.inputs:
        for name in OUTPUTS:
            noise = record.noise[kind][name]
            assert record.reference[kind][name].dtype == np.float64
            assert record.eager[kind][name].dtype == np.float32
            assert noise.is_measured
            assert noise.floor >= MIN_FLOOR_ULPS * np.spacing(np.float32(noise.scale))
            assert noise.floor < 1e-4 * noise.scale or kind == CONSTANT
            errors = np.abs(record.eager[kind][name] - record.reference[kind][name])
            assert errors.max() <= noise.floor


def test_probabilities_of_the_reference_are_the_softmax_of_its_logits() -> None:
    record = reference_of(Residual(), RGB)
    logits = record.reference["random"][LOGITS]
    expected = np.exp(logits - logits.max(1, keepdims=True))
    expected /= expected.sum(1, keepdims=True)
    # float64 rounding in two orders of summation
    np.testing.assert_allclose(record.reference["random"][PROBABILITIES], expected, rtol=1e-12, atol=0)


def test_a_model_that_cannot_run_in_float64_is_compared_by_torch_s_tolerance() -> None:
    record = reference_of(OnlyFloat32())
    assert not record.noise["random"][LOGITS].is_measured


def test_an_autocast_around_the_export_changes_nothing() -> None:
    alone = reference_of(Plain())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = reference_of(Plain())
    np.testing.assert_array_equal(alone.eager["random"][LOGITS], inside.eager["random"][LOGITS])


def test_the_random_state_of_the_caller_is_left_alone() -> None:
    network = LiveFunctionalDropout()
    torch.manual_seed(7)
    before = torch.get_rng_state()
    with pytest.raises(NotExportable):
        reference_of(network)
    assert torch.equal(before, torch.get_rng_state())


def test_outputs_of_another_width_than_the_labels_are_refused() -> None:
    with pytest.raises(NotExportable, match=r"gives shape \(2, 5\).*4 labels"):
        reference_of(nn.Sequential(nn.Flatten(), nn.Linear(64, 5)))


def test_a_model_that_takes_another_size_is_refused() -> None:
    with pytest.raises(NotExportable, match="does not run on a batch of size 2"):
        reference_of(Plain(num_inputs=65))


def test_a_reference_extended_by_more_samples_is_the_one_of_all() -> None:
    signature, deployable = RGB, Deployable(Residual(), RGB)
    samples = gather_samples(signature, None, num_samples=24)
    few, all_at_once = (make_reference(deployable, samples, signature, num_first=count) for count in (8, None))
    assert (few.num_samples, few.is_complete, all_at_once.is_complete) == (8, False, True)
    extended = few.extended(16).extended(24)
    assert extended.is_complete
    for kind, outputs in all_at_once.record.reference.items():
        np.testing.assert_array_equal(extended.record.inputs[kind], samples[kind])
        for name, array in outputs.items():
            # two orders of summation in float64
            np.testing.assert_allclose(extended.record.reference[kind][name], array, rtol=1e-12, atol=1e-14)
            errors = np.abs(extended.record.eager[kind][name] - array)
            assert errors.max() <= extended.record.noise[kind][name].floor
    assert few.record.noise["random"][LOGITS].floor <= extended.record.noise["random"][LOGITS].floor


def test_samples_that_are_wanted_in_any_case_are_computed_first() -> None:
    real = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
    samples = gather_samples(SIGNATURE, real, num_samples=20)
    record = make_reference(Deployable(Plain(), SIGNATURE), samples, SIGNATURE, 8, {"real": 12}).record
    assert {kind: len(feed) for kind, feed in record.inputs.items()} == {"real": 12, "random": 8, CONSTANT: 5}


class Saturated(Plain):
    """Softmax gives 0 and 1 for every image."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return super().forward(image) + 1000 * torch.arange(4)


def test_probabilities_that_are_always_0_and_1_are_no_fault_where_logits_depend_on_the_input() -> None:
    reference = reference_of(Saturated()).reference["random"]
    assert np.ptp(reference["probabilities"], axis=0).max() == 0
    assert np.ptp(reference["logits"], axis=0).min() > 0


class Rare(Plain):
    """Depends on the input for bright images only, of which the first samples have none."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        is_bright = (image.mean((1, 2, 3)) > 1).to(image.dtype)
        return super().forward(image) * is_bright[:, None] + self[3].bias


def test_more_samples_are_tried_before_a_model_is_refused_that_seems_not_to_depend_on_its_input() -> None:
    dark = np.random.default_rng(0).integers(0, 40, (20, 8, 8, 1), np.uint8)
    dark[15:] += 200
    samples = {"real": dark}
    assert make_reference(Deployable(Rare(), SIGNATURE), samples, SIGNATURE, 8).is_complete
    with pytest.raises(NotExportable, match="does not depend on the input"):
        make_reference(Deployable(Rare(), SIGNATURE), {"real": dark[:15]}, SIGNATURE, 8)
