from __future__ import annotations

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onward.backends.placement import MIN_PLACEMENT, Placement, check_placement
from onward.backends.providers import CPU, CUDA, TENSORRT, ProviderRequest
from onward.errors import ProviderError

OPERATORS = st.dictionaries(st.sampled_from(["Conv", "Gather", "Relu", "Shape"]), st.integers(1, 50)).map(Counter)
PLACEMENTS = st.fixed_dictionaries({TENSORRT: OPERATORS, CUDA: OPERATORS, CPU: OPERATORS}).map(Placement)

MOSTLY_CUDA = Placement({CUDA: Counter(Conv=60, Relu=58), CPU: Counter(Gather=3)})
HARDLY_CUDA = Placement({CUDA: Counter(Conv=1), CPU: Counter(Relu=2, Gather=1)})
NO_CUDA = Placement({CUDA: Counter(), CPU: Counter(Conv=3)})
NOT_STARTED = Placement({CPU: Counter(Conv=3)}, absent=(CUDA,))


@given(PLACEMENTS)
def test_shares_add_up_to_the_whole(placement: Placement) -> None:
    shares = [placement.share(name) for name in placement.nodes]
    if placement.num_nodes:
        assert sum(shares) == pytest.approx(1)
        assert placement.share(CUDA, CPU) == pytest.approx(placement.share(CUDA) + placement.share(CPU))
    assert placement.share(*placement.nodes) == 1
    assert all(placement.share(placement.main) >= share for share in shares)


@given(PLACEMENTS)
def test_the_json_form_holds_every_node(placement: Placement) -> None:
    document = json.loads(json.dumps(placement.to_json()))
    counted = {name: Counter(item["operators"]) for name, item in document["providers"].items()}
    assert Placement(counted) == Placement({name: +nodes for name, nodes in placement.nodes.items()})
    assert sum(item["num_nodes"] for item in document["providers"].values()) == document["num_nodes"]


@pytest.mark.parametrize(
    ("placement", "text"),
    [
        (MOSTLY_CUDA, "CUDA 97 % (118 of 121 nodes); CPU: Gather ×3"),
        (NO_CUDA, "CPU 100 % (3 of 3 nodes); CUDA: none"),
        (NOT_STARTED, "CPU 100 % (3 of 3 nodes); CUDA: not available"),
        (Placement({CUDA: Counter(Conv=5), CPU: Counter()}), "CUDA 100 % (5 of 5 nodes)"),
        (Placement({CUDA: Counter(Conv=999), CPU: Counter(Shape=1)}), "CUDA 99 % (999 of 1000 nodes); CPU: Shape ×1"),
        (Placement({CPU: Counter()}), "CPU 100 %"),
        (
            Placement({CUDA: Counter(Conv=20), CPU: Counter("abcdefg")}),
            "CUDA 74 % (20 of 27 nodes); CPU: a ×1, b ×1, c ×1, d ×1, e ×1, …",
        ),
    ],
)
def test_a_placement_is_described_in_a_line(placement: Placement, text: str) -> None:
    assert placement.describe() == text


@pytest.mark.parametrize(
    ("text", "min_placement", "placement"),
    [
        ("cuda", None, MOSTLY_CUDA),
        ("cuda", 0.97, MOSTLY_CUDA),
        ("cuda", None, Placement({CUDA: Counter(Conv=1), CPU: Counter(Shape=1)})),
        ("cuda", 0.25, HARDLY_CUDA),
        ("cuda", 0.0, HARDLY_CUDA),
        ("cuda,cpu", None, HARDLY_CUDA),
        ("cuda,cpu", None, NO_CUDA),
        ("cuda,cpu", None, NOT_STARTED),
        ("cuda,cpu", 0.0, NO_CUDA),
        ("cuda,cpu", 0.25, HARDLY_CUDA),
        ("cpu", 1.0, NO_CUDA),
        ("tensorrt,cuda", None, MOSTLY_CUDA),
        ("cuda", None, Placement({CUDA: Counter(), CPU: Counter()})),
    ],
)
def test_enough_is_accepted(text: str, min_placement: float | None, placement: Placement) -> None:
    check_placement(placement, ProviderRequest.parse(text, min_placement=min_placement))


@pytest.mark.parametrize(
    ("text", "min_placement", "placement", "reason"),
    [
        ("cuda", None, HARDLY_CUDA, r"took 1 of 4 nodes, 25\.0%, fewer than 50\.0%; .* CPU: Relu ×2, Gather ×1\."),
        ("cuda", 0.98, MOSTLY_CUDA, r"took 118 of 121 nodes, 97\.5%, fewer than 98\.0%"),
        (
            "cuda",
            0.0,
            NO_CUDA,
            r"took no node .* the rest runs elsewhere: CPU: Conv ×3\. `--provider cuda,cpu` lets the CPU",
        ),
        ("cuda", None, NOT_STARTED, r"did not start .* would use CPUExecutionProvider instead"),
        ("cuda", None, Placement({CPU: Counter()}, absent=(CUDA,)), "did not start"),
        ("cuda,cpu", 0.26, HARDLY_CUDA, r"fewer than 26\.0%.* A lower `--min-placement`, or none"),
        ("cuda,cpu", 0.1, NOT_STARTED, "did not start"),
        ("tensorrt,cuda", None, HARDLY_CUDA, f"{TENSORRT} and {CUDA} were asked for and took 1 of 4"),
        ("tensorrt,cuda", 0.1, MOSTLY_CUDA, f"{TENSORRT} was asked for and took no node .* CUDA: Conv ×60, Relu ×58"),
    ],
)
def test_too_little_is_refused_with_what_was_left_and_what_to_do(
    text: str, min_placement: float | None, placement: Placement, reason: str
) -> None:
    with pytest.raises(ProviderError, match=reason):
        check_placement(placement, ProviderRequest.parse(text, min_placement=min_placement))


@given(st.integers(0, 100), st.integers(0, 100))
def test_without_the_cpu_in_the_list_half_of_the_nodes_are_the_least(taken: int, left: int) -> None:
    placement = Placement({CUDA: +Counter(Conv=taken), CPU: +Counter(Conv=left)})
    request = ProviderRequest.parse("cuda")
    if taken + left == 0 or taken >= MIN_PLACEMENT * (taken + left) > 0:
        check_placement(placement, request)
    else:
        with pytest.raises(ProviderError):
            check_placement(placement, request)
