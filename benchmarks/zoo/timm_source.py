"""timm's members: small networks of all its families, chosen by computation.

`python -m benchmarks.zoo.timm_source` chooses them and writes timm.json beside this file. It builds every network of
timm on PyTorch's meta device, without memory for weights, which takes some ten minutes.
"""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.zoo.source import ROOT, Member, Source
from onward.files import written_whole

__all__ = ["TIMM", "choose"]

CHOICE = Path(__file__).with_name("timm.json")
#: How many networks are chosen at least, and how many of each family before any second kind of a family.
NUM_MEMBERS, NUM_OF_FAMILY = 220, 2
NUM_CLASSES = 10
#: Sides of images from the smallest; a network gets the first that it takes.
SIDES = (64, 96, 128, 160, 192, 224, 256, 288, 384, 448, 512)


def members(max_gmacs: float) -> list[Member]:
    """The chosen networks, the cheapest first. `max_gmacs` has no effect: all have the smallest images they take."""
    rows = json.loads(CHOICE.read_text(encoding="utf-8"))["members"]
    found = [Member(library="timm", **row) for row in rows]
    return sorted(found, key=lambda member: (member.gmacs, member.name))


def build(member: Member) -> tuple[Any, Any]:
    """The network with timm's random weights, and a signature with the mean and std of its published weights."""
    from onward.signature import Signature

    network = _network(member.name, member.side)
    config = network.pretrained_cfg
    labels = tuple(f"class {number}" for number in range(NUM_CLASSES))
    return network, Signature(member.side, member.side, 3, tuple(config["mean"]), tuple(config["std"]), labels)


def choose(parameters: Mapping[str, tuple[str, int]]) -> list[Member]:
    """The smallest networks of each family, then the smallest of each kind of name, then more of each family.

    Args:
        parameters: Name -> family and number of parameters, of all networks.
    """
    chosen: list[Member] = []
    for name in _by_priority(parameters):
        if len(chosen) == NUM_MEMBERS:
            break
        member = _member(name, *parameters[name])
        if member is None:
            print(f"{name}: takes no image of {SIDES} pixels a side", file=sys.stderr)
        else:
            chosen.append(member)
    return chosen


def _by_priority(parameters: Mapping[str, tuple[str, int]]) -> Iterator[str]:
    names = sorted(parameters, key=lambda name: (parameters[name][1], name))
    ranks: dict[str, int] = {}
    kinds: dict[str, int] = {}
    keys = {}
    for name in names:
        family, number = parameters[name]
        kind = re.match("[a-z]+", name)
        rank, of_kind = ranks.setdefault(family, 0), kinds.setdefault(kind[0] if kind else name, 0)
        ranks[family] += 1
        kinds[kind[0] if kind else name] += 1
        tier = 0 if rank < NUM_OF_FAMILY else 1 if of_kind == 0 else 2
        keys[name] = (tier, rank if tier == 2 else 0, number, name)
    yield from sorted(names, key=keys.__getitem__)


def _member(name: str, family: str, num_parameters: int) -> Member | None:
    """The member with the smallest images that the network takes; None if it takes none."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    native = _network(name, None, device="meta").pretrained_cfg["input_size"][-1]
    for side in sorted({*SIDES, native}):
        try:
            network = _network(name, side, device="meta").eval().requires_grad_(False)  # or counting fails
            with FlopCounterMode(display=False) as counter, torch.no_grad():
                logits = network(torch.empty(2, 3, side, side, device="meta"))
        except Exception:  # an architecture may refuse a size in any way
            continue
        if isinstance(logits, torch.Tensor) and logits.shape == (2, NUM_CLASSES):
            gmacs = counter.get_total_flops() / 2 / 2 / 1e9
            return Member(name, side, native, round(gmacs, 4), num_parameters, "timm", family)
    return None


def _network(name: str, side: int | None, *, device: str = "cpu") -> Any:
    """The network, for images of `side` where the architecture has an argument for it."""
    import timm
    import torch

    known: dict[str, Any] = {"num_classes": NUM_CLASSES, "in_chans": 3}
    sized: dict[str, Any] = {} if side is None else {"img_size": side}
    with torch.device(device):
        try:
            return timm.create_model(name, **known, **sized)
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            return timm.create_model(name, **known)


def _parameters(cache: Path) -> dict[str, tuple[str, int]]:
    """Name -> family and number of parameters of all networks; the cache is written after each family."""
    import timm
    import torch

    found: dict[str, tuple[str, int]] = json.loads(cache.read_text()) if cache.exists() else {}
    for family in timm.list_modules():
        for name in timm.list_models(module=family):
            if name not in found:
                with torch.device("meta"):
                    network = timm.create_model(name, num_classes=NUM_CLASSES, in_chans=3)
                found[name] = (family, sum(item.numel() for item in network.parameters()))
        cache.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(cache) as path:
            path.write_text(json.dumps(found), encoding="utf-8")
    return found


def main() -> None:
    """Choose the members and write them."""
    import timm

    warnings.simplefilter("ignore")
    chosen = choose(_parameters(ROOT / "artifacts" / "zoo" / f"timm-{timm.__version__}-parameters.json"))
    rows = [{key: value for key, value in asdict(member).items() if key != "library"} for member in chosen]
    lines = ",\n".join(json.dumps(row) for row in sorted(rows, key=lambda row: (row["family"], row["name"])))
    CHOICE.write_text(f'{{"timm": "{timm.__version__}", "members": [\n{lines}\n]}}\n', encoding="utf-8")
    print(f"wrote {CHOICE}: {len(rows)} networks of {len({row['family'] for row in rows})} families")


TIMM = Source("timm", members, build)

if __name__ == "__main__":
    main()
