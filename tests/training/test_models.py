"""Models: what `--model` may name becomes a network that fits the images and gives logits."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from onward.errors import UsageError
from onward.signature import Signature
from onward_training.model_names import ARCHITECTURES, LIBRARIES, registered_networks
from onward_training.models import as_logits_network, build, build_checked
from onward_training.models.published_weights import published_of
from onward_training.models.user_code import user_network
from onward_training.normalization import Normalize

GREY = Signature(28, 28, 1, (0.3,), (0.4,), tuple("0123456789"))
TWO = Signature(28, 28, 1, (0.3,), (0.4,), ("no", "yes"))
RGB = Signature(32, 32, 3, (0.5,) * 3, (0.25,) * 3, tuple("abcde"))


def linear(num_outputs: int = 10) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, num_outputs))


def images(signature: Signature, count: int = 5) -> Tensor:
    return torch.randn(count, signature.network_channels, signature.height, signature.width)


class Ends(nn.Module):
    """A linear layer, and a function of PyTorch's or of one's own."""

    def __init__(self, function, num_outputs: int = 10) -> None:
        super().__init__()
        self.body = linear(num_outputs)
        self.function = function

    def forward(self, image: Tensor) -> Tensor:
        return self.function(self.body(image))


@pytest.mark.parametrize(
    "function",
    [
        nn.Softmax(dim=1),
        lambda x: F.softmax(x, dim=1),
        lambda x: torch.softmax(x, 1),
        lambda x: x.softmax(-1),
        lambda x: torch.softmax(torch.softmax(x, 1) * 0 + x, 1),
    ],
)
def test_a_last_softmax_is_left_out_however_it_is_written(function) -> None:
    network = Ends(function)
    image = images(GREY)
    assert torch.equal(as_logits_network(network, GREY)(image), network.body(image))


@pytest.mark.parametrize("function", [nn.LogSoftmax(dim=1), lambda x: F.log_softmax(x, 1), nn.ReLU(), nn.Identity()])
def test_a_log_softmax_and_logits_stay_as_they_are(function) -> None:
    network = Ends(function)
    assert as_logits_network(network, GREY) is network


@pytest.mark.parametrize("function", [nn.Sigmoid(), torch.sigmoid, lambda x: torch.sigmoid(x).squeeze(1)])
def test_one_sigmoid_becomes_two_logits_with_the_same_probability(function) -> None:
    network = Ends(function, 1)
    image = images(TWO)
    logits = as_logits_network(network, TWO)(image)
    assert logits.shape == (5, 2)
    torch.testing.assert_close(torch.softmax(logits, 1)[:, 1], network(image).reshape(-1))


def test_no_probability_that_underflows_is_lost() -> None:
    network = Ends(nn.Softmax(dim=1))
    with torch.no_grad():
        network.body[1].weight.mul_(1e4)
    assert network(images(GREY)).min() == 0
    assert torch.isfinite(as_logits_network(network, GREY)(images(GREY))).all()


def test_one_logit_for_two_classes_becomes_two() -> None:
    network = linear(1)
    image = images(TWO)
    torch.testing.assert_close(as_logits_network(network, TWO)(image), F.pad(network(image), (1, 0)))


def test_one_small_logit_is_no_probability() -> None:
    network = linear(1)
    with torch.no_grad():
        network[1].weight.mul_(1e-2)
        network[1].bias.fill_(0.4)
    image = images(TWO)
    assert 0 <= network(image).min() <= network(image).max() <= 1
    torch.testing.assert_close(as_logits_network(network, TWO)(image), F.pad(network(image), (1, 0)))


@pytest.mark.parametrize(
    ("function", "signature", "match"),
    [
        (lambda x: torch.exp(x) / torch.exp(x).sum(1, keepdim=True), GREY, "look like probabilities"),
        (lambda x: 1 / (1 + torch.exp(-x[:, :1])), TWO, "look like probabilities"),
        (torch.sigmoid, GREY, "a sigmoid for each of 10 classes"),
    ],
)
def test_probabilities_whose_logits_cannot_be_had_are_refused(function, signature: Signature, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        as_logits_network(Ends(function), signature)


def test_what_is_declared_is_held_to() -> None:
    network = Ends(torch.sigmoid)
    image = images(GREY)
    assert torch.equal(as_logits_network(network, GREY, "sigmoid")(image), network.body(image))
    declared = as_logits_network(network, GREY, "logits")
    assert torch.equal(declared(image), network(image))
    assert as_logits_network(declared, GREY) is declared, "what was declared is not supposed anew, e.g. by the export"
    with pytest.raises(UsageError, match="does not end in PyTorch's softmax"):
        as_logits_network(network, GREY, "softmax")
    with pytest.raises(UsageError, match="one of auto"):
        as_logits_network(network, GREY, "tanh")


def test_looking_at_a_network_changes_nothing_about_it() -> None:
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Dropout(), nn.LazyLinear(10))
    network(images(GREY))
    network[3].eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    state = torch.get_rng_state()
    as_logits_network(network, GREY)
    assert torch.equal(state, torch.get_rng_state())
    assert [module.training for module in network] == [True, True, True, False, True]
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_gives_logits_for_every_class(name: str) -> None:
    signature = TWO if name in ("neuron", "two-layers") else GREY
    network, signature = build_checked(name, signature)
    assert as_logits_network(network, signature)(images(signature)).shape == (5, signature.num_classes)


@given(width=st.integers(1, 40), height=st.integers(1, 40), channels=st.sampled_from([1, 3]), classes=st.integers(2, 9))
@settings(deadline=None, max_examples=30)
def test_the_classifier_fits_any_image_and_any_number_of_classes(
    width: int, height: int, channels: int, classes: int
) -> None:
    labels = tuple(map(str, range(classes)))
    signature = Signature(height, width, channels, (0.5,) * channels, (0.5,) * channels, labels)
    network, _ = build_checked("classifier", signature)
    assert network.eval()(images(signature)).shape == (5, classes)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v3_small", "squeezenet1_1"])
def test_networks_of_torchvision_take_the_labels_of_the_data(name: str) -> None:
    network, signature = build_checked(f"torchvision:{name}", RGB)
    assert signature is RGB
    assert network.eval()(images(RGB)).shape == (5, 5)


def test_a_grey_image_is_repeated_for_a_network_of_three_channels_and_the_signature_says_so() -> None:
    network, signature = build_checked("torchvision:resnet18", GREY)
    assert (signature.channels, signature.repeat, signature.mean) == (1, 3, (0.3,) * 3)
    assert Signature.from_json(signature.to_json()) == signature
    pixels = torch.randint(0, 256, (2, 28, 28, 1), dtype=torch.uint8)
    fed = Normalize(signature)(pixels)
    assert fed.shape == (2, 3, 28, 28)
    assert torch.equal(fed[:, :1], Normalize(GREY)(pixels))
    assert network.eval()(fed).shape == (2, 10)


def test_timm_networks_take_as_many_channels_as_the_images_have() -> None:
    pytest.importorskip("timm")
    network, signature = build_checked("timm:resnet10t", GREY)
    assert (signature.repeat, network.eval()(images(GREY)).shape) == (1, (5, 10))


def test_torchvision_knows_what_its_weights_take_and_give() -> None:
    second, first = published_of("torchvision:resnet50")
    assert (first.file_name, first.digest) == ("resnet50-0676ba61.pth", "0676ba61")
    found = first.preprocessing()
    assert (found.rule().shorter_side_px, found.image_size, found.channels) == (256, (224, 224), 3)
    assert second.name == "torchvision's IMAGENET1K_V2 of resnet50"
    assert second.preprocessing().rule().shorter_side_px == 232
    assert (first.num_classes, first.labels()[:2]) == (1000, ("tench", "goldfish"))


OWN = """
import torch
from torch import nn

class Network(nn.Module):
    def __init__(self, num_inputs, num_classes, hidden=(8,)):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(num_inputs, hidden[0]), nn.Linear(hidden[0], num_classes))

    def forward(self, image):
        return self.layers(image)

def wrong(num_classes=10):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, num_classes + 1))

def three(num_classes):
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(num_classes))

def angry():
    raise KeyError("no luck")

number = 3
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    path = tmp_path / f"own_{tmp_path.name}.py"
    path.write_text(OWN)
    return path


def test_a_network_of_ones_own_is_built_from_its_file_with_the_sizes_it_asks_for(own: Path) -> None:
    network, _ = build_checked(f"{own}:Network", GREY, {"hidden": [5]})
    assert network.layers[1].weight.shape == (5, 784)
    assert build(f"{own}:Network", TWO).layers[2].out_features == 2
    assert build(f"{own.stem}:Network", GREY).layers[1].out_features == 8, "its module can be named, too"


def test_a_grey_image_is_repeated_for_a_network_of_ones_own(own: Path) -> None:
    _, signature = build_checked(f"{own}:three", GREY)
    assert signature.repeat == 3


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("{}:wrong", r"returns shape \(2, 11\) for 2 samples, expected \(2, 10\) for 10 labels"),
        ("{}:angry", "building .* failed: KeyError: 'no luck'"),
        ("{}:number", "has no class or function 'number'; its networks are: Network"),
        ("{}:Networks", "its networks are: Network"),
        ("missing.py:Network", "does not exist"),
        ("torchvision:resnet19", "nearest: resnet18"),
        ("torchvision:fasterrcnn_resnet50_fpn", "no classification network"),
        ("no.such.module:f", "importing no.such.module failed: ModuleNotFoundError"),
        ("os:getcwd", "returned a str, expected an nn.Module"),
        ("resnet", "is unknown, expected one of neuron"),
        ("torchvision:vit_b_16", "does not run on images"),
    ],
)
def test_what_cannot_be_built_or_does_not_fit_is_refused(name: str, match: str, own: Path) -> None:
    with pytest.raises(UsageError, match=match):
        build_checked(name.format(own), GREY)


@pytest.mark.parametrize("name", ["cnn", "torchvision:mobilenet_v3_small"])
def test_the_number_of_classes_may_be_stated_if_it_is_that_of_the_labels(name: str) -> None:
    assert build(name, GREY, {"num_classes": 10}) is not None
    with pytest.raises(UsageError, match="states num_classes 7, but there are 10 labels"):
        build(name, GREY, {"num_classes": 7})


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's folder, and an installed package with modules `checks_of_us` and `tools_of_us`."""
    installed = tmp_path / "installed"
    installed.mkdir()
    for name in ("checks_of_us", "tools_of_us"):
        (installed / f"{name}.py").write_text("SIZE = 1")
    monkeypatch.setattr(sys, "path", [*sys.path, str(installed)])
    folder = tmp_path / "project"
    (folder / "checks_of_us").mkdir(parents=True)
    (folder / "checks_of_us" / "__init__.py").write_text("SIZE = 7")
    code = "from torch import nn\nfrom checks_of_us import SIZE\n\ndef network(): return nn.Linear(SIZE, 2)\n"
    (folder / "net_of_us.py").write_text(code)
    (folder / "tools_of_us.py").write_text(code)
    yield folder
    for name in ("checks_of_us", "checks_of_us.near", "checks_of_us.sub", "net_of_us", "near", "sub", "tools_of_us"):
        sys.modules.pop(name, None)


def test_no_installed_package_hides_a_module_beside_the_users_file(place: Path) -> None:
    assert user_network(f"{place}/net_of_us.py:network", GREY).in_features == 7
    assert user_network(f"{place}/tools_of_us.py:network", GREY).in_features == 7, "its name may be installed, too"


def test_code_in_a_package_of_the_current_folder_is_found(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "checks_of_us" / "sub.py").write_text(
        "from checks_of_us import SIZE\nfrom torch import nn\n\n" + "def network(): return nn.Linear(SIZE, 2)\n"
    )
    (place / "checks_of_us" / "near.py").write_text("from .sub import network\n")
    with pytest.raises(UsageError, match="No module named"):
        user_network("checks_of_us.near:network", GREY)  # that of the installed module is another
    sys.modules.pop("checks_of_us")
    monkeypatch.chdir(place)
    assert user_network("checks_of_us.near:network", GREY).in_features == 7
    assert user_network("checks_of_us/sub.py:network", GREY).in_features == 7
    with pytest.raises(UsageError, match=r"It is a file of a package: --model checks_of_us.near:NAME"):
        user_network("checks_of_us/near.py:network", GREY)


@pytest.mark.parametrize(("file", "is_first"), [("turtle.py", True), ("onnxruntime.py", False), ("onward.py", False)])
def test_a_users_file_hides_no_module_that_onward_needs(place: Path, file: str, is_first: bool) -> None:
    (place / file).write_text("raise SystemExit")
    size = user_network(f"{place}/net_of_us.py:network", GREY).in_features
    assert size == (7 if is_first else 1), "with such a file, installed packages come first"
    found = PathFinder.find_spec(file.removesuffix(".py"))
    assert found is not None
    assert found.origin != str(place / file)


def test_a_file_whose_name_is_taken_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit")
    with pytest.raises(UsageError, match="rename the file"):
        build(f"{tmp_path / 'json.py'}:Network", GREY)
    assert "json" in sys.modules


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_names_in_the_source_code_are_those_that_the_library_registers(library: str) -> None:
    models = pytest.importorskip(f"{library}.models" if library == "torchvision" else library)
    listed = models.list_models(**({"module": models} if library == "torchvision" else {}))
    assert sorted(registered_networks(library)) == sorted(listed)
