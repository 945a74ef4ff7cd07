"""docs/manifest.schema.json says of every manifest what Onward writes and reads, and of others that they are none."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from onward.bundle import Bundle
from onward.signature import Input, Output, Signature, TensorSignature
from onward.tasks.class_fidelity import measure_fidelity
from tests import schemas
from tests.bundles import path_of

ROOT = Path(__file__).parents[3]
OLD = sorted((Path(__file__).parent / "bundles").rglob("manifest.json"))


def complaints(document: object) -> list[str]:
    return schemas.complaints("manifest", document)


def manifest(bundle: Bundle) -> Any:
    return json.loads((bundle.path / "manifest.json").read_text())


def test_the_schema_is_one() -> None:
    assert schemas.is_schema("manifest")


def test_a_manifest_written_today_fits(shared_bundle: Bundle) -> None:
    assert complaints(manifest(shared_bundle)) == []


def test_a_manifest_with_two_precisions_fits() -> None:
    assert complaints(manifest(Bundle.open(path_of("digits-int8")))) == []


@pytest.mark.parametrize("path", OLD, ids=lambda path: path.parent.name)
def test_a_manifest_of_long_ago_fits(path: Path) -> None:
    assert complaints(json.loads(path.read_text())) == []


@pytest.mark.parametrize(
    "signature",
    [
        TensorSignature((Input("features", "float32", (13,)), Input("ids", "int64", (None,), (0, 9))), ("a", "b")),
        Signature(8, 8, 1, (0.5,), (0.25,), ("a", "b"), interface="tensor", dynamic_size=True),
        Signature(8, 8, 1, (0.5,) * 3, (0.25,) * 3, ("a", "b"), repeat=3),
        TensorSignature(
            (Input("x", "float32", (2,)),),
            outputs=(Output("mask", "uint8", ("height", None, 3), "mask"), Output("age", "float32", (), "age")),
            task="boxes",
        ),
    ],
    ids=["tensors", "float planes of any size", "grey as RGB", "another task"],
)
def test_every_form_of_signature_fits(signature: Any) -> None:
    assert schemas.complaints("manifest", signature.to_json(), "signature") == []


def test_the_manifest_of_a_model_of_tensors_with_a_licence_fits() -> None:
    document = manifest(Bundle.open(path_of("licensed")))
    assert complaints(document) == []
    assert document["provenance"]["licence"] == "CC0-1.0"


@pytest.mark.parametrize("targets", [None, np.arange(600) % 3])
def test_an_artifact_of_lower_precision_fits(targets: Any, shared_bundle: Bundle) -> None:
    logits = np.eye(3)[np.arange(600) % 3]
    fidelity = measure_fidelity("abc", logits, np.roll(logits, 1, 0), targets, 0.0)
    lower = {"precision": "int8", "parent": "onnx", "recipe": {"weight_bits": 7}, "fidelity": fidelity.to_json()}
    document = json.loads(json.dumps(manifest(shared_bundle)))
    document["artifacts"][0] |= json.loads(json.dumps(lower))
    assert complaints(document) == []
    for key in ("parent", "recipe", "fidelity"):
        less = copy.deepcopy(document)
        del less["artifacts"][0][key]
        assert complaints(less) != []


EDITS: dict[str, Callable[[Any], object]] = {
    "another format": lambda document: document.update(format=2),
    "a key that is none": lambda document: document.update(comment="hello"),
    "no labels": lambda document: document["signature"].update(labels=[]),
    "a path out of it": lambda document: document["files"][0].update(path="../golden.npz"),
    "an absolute path": lambda document: document["files"][0].update(path="/golden.npz"),
    "a short digest": lambda document: document["artifacts"][0]["file"].update(sha256="abc"),
    "an unknown format of artifact": lambda document: document["artifacts"][0].update(format="tflite"),
    "floats in NHWC": lambda document: document["signature"]["input"].update(dtype="float32"),
    "both kinds of input": lambda document: document["signature"].update(inputs=[]),
    "one output": lambda document: document["signature"]["outputs"].pop(),
    "an output of another meaning": lambda document: document["signature"]["outputs"][0].update(meaning="depth"),
    "an output without a meaning": lambda document: document["signature"].update(
        task="depth", outputs=[{"name": "depth", "dtype": "float32", "shape": ["batch", 2]}]
    ),
    "float32 with a parent": lambda document: document["artifacts"][0].update(parent="onnx"),
    "a std of 0": lambda document: document["signature"]["normalize"].update(std=[0]),
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_is_no_manifest_does_not_fit(edit: str, shared_bundle: Bundle) -> None:
    document = copy.deepcopy(manifest(shared_bundle))
    EDITS[edit](document)
    assert complaints(document) != []
