"""A bundle opens for ever: one of each format is kept, as the Onward of its day wrote it."""

from __future__ import annotations

from pathlib import Path

import pytest

from onward.bundle import Bundle
from onward.bundle.verification import verify
from onward.classifier import load

KEPT = sorted((Path(__file__).parent / "bundles").glob("format-*"))


def test_every_format_so_far_is_kept() -> None:
    from onward.bundle import FORMAT

    assert [path.name for path in KEPT] == [f"format-{number}" for number in range(1, FORMAT + 1)]


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.name)
def test_it_opens_and_its_onnx_is_proven_again(path: Path) -> None:
    results = verify(Bundle.open(path), artifacts=["onnx"])
    assert all(result.passed for result in results)


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.name)
def test_it_predicts_what_it_did(path: Path) -> None:
    classifier = load(path)
    golden = classifier.bundle.golden()
    predictions = classifier(golden.inputs["real"])
    assert predictions.indices.tolist() == golden.reference["real"]["logits"].argmax(1).tolist()
