"""`onward inspect` of a checkpoint, or of a weights file that something else wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from onward.cli.console import AsJson, print_json, print_table, say, say_next
from onward_training.model_names import naming

if TYPE_CHECKING:
    from onward_training.checkpoint import Checkpoint
    from onward_training.external.family import Family

__all__ = ["describe", "inspect"]

MAX_TENSORS_SHOWN = 16


def inspect(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT|WEIGHTS", help="A file of `onward train`, or a weights file.")
    ],
    as_json: AsJson = False,
) -> None:
    """Print what a checkpoint holds; or the entries of a weights file, for --entry."""
    from dataclasses import asdict

    from onward.cli.inspect import print_signature
    from onward_training.checkpoint import Checkpoint, is_checkpoint
    from onward_training.external import weights_entries

    if not is_checkpoint(checkpoint):
        entries = weights_entries(checkpoint)
        family = _family_of(checkpoint, entries)
        if as_json:
            print_json({"entries": entries, "family": None if family is None else asdict(family)})
        else:
            print_table(
                ["entry", ">tensors", ">values", "first name", "taken by default"],
                [
                    [item["entry"] or "the whole file", f"{item['num_tensors']:,}", f"{item['num_parameters']:,}"]
                    + [item["first"], "yes" if item["is_taken"] else ""]
                    for item in entries
                ],
            )
            _print_tensors(next((item for item in entries if item["is_taken"]), entries[0])["tensors"])
            _print_family(checkpoint, family)
        return
    document = describe(Checkpoint.load(checkpoint))
    if as_json:
        print_json(document)
        return
    print_signature(document["signature"], checkpoint)
    rows = [[key, str(document[key])] for key in ("architecture", "arguments", "data")]
    rows += [["values", f"{document['num_parameters']:,}"], ["weights_sha256", document["weights_sha256"]]]
    rows += [[key, str(value)] for key, value in document["provenance"].items() if key != "data"]
    print_table(["checkpoint", ""], rows)
    named = naming(document["architecture"])
    say_next(("evaluate", checkpoint, *named), ("export", checkpoint, *named))


def _family_of(path: Path, entries: list[dict[str, Any]]) -> Family | None:
    from onward_training.external.family import find_family
    from onward_training.external.weights import read_weights

    if not any(item["is_taken"] for item in entries):
        return None
    return find_family(read_weights(path).state_dict)


def _print_tensors(tensors: list[dict[str, Any]]) -> None:
    shown = [[item["name"], item["dtype"], " × ".join(map(str, item["shape"])) or "one number"] for item in tensors]
    if len(tensors) > MAX_TENSORS_SHOWN:
        left_out = [f"… {len(tensors) - MAX_TENSORS_SHOWN + 1:,} more", "", ""]
        shown = [*shown[: MAX_TENSORS_SHOWN - 5], left_out, *shown[-4:]]
    print_table(["tensor", "dtype", "shape"], shown)


def _print_family(path: Path, family: Family | None) -> None:
    """What network has these tensors, and the command that takes them."""
    from onward_training.models.published_weights import find_published

    image = ("--image-size", "HEIGHTxWIDTHx3", "--resize", "RULE", "--mean", "MEAN", "--std", "STD")
    inputs = (*image, "--labels", "LABELS.txt")
    if family is None:
        say("no network of torchvision or timm with exactly these tensors was found: --model names your own.")
        say_next(("export", path, "--model", "FILE.py:NAME", *inputs))
        return
    begin = f", under names that begin with {family.prefix}" if family.prefix else ""
    published = find_published(family.model, path)
    known = "" if published is None else f", and the file is {published.name}"
    say(f"these are the tensors of {family.model} with {family.num_classes:,} outputs{begin}{known}.")
    say_next(("export", path, "--model", family.model, *(inputs if published is None else ())))


def describe(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a checkpoint holds, as plain data."""
    from dataclasses import asdict

    return {
        "architecture": checkpoint.architecture,
        "arguments": dict(checkpoint.arguments),
        "final_activation": checkpoint.final_activation,
        "data": checkpoint.data,
        "num_parameters": sum(tensor.numel() for tensor in checkpoint.state_dict.values()),
        "weights_sha256": checkpoint.weights_digest(),
        "signature": checkpoint.signature.to_json(),
        "history": [asdict(epoch) for epoch in checkpoint.history],
        "provenance": dict(checkpoint.provenance),
    }
