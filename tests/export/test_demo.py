"""The demo: the whole line, and a page that needs no network."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from onward.bundle import Bundle
from tests.forks import CAN_FORK, Fork

pytestmark = pytest.mark.long


@pytest.mark.skipif(not CAN_FORK, reason="the demo, with fewer rounds of its bench, runs in a fork")
def test_the_demo_makes_everything_that_it_names(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    with Fork("demo", ["--out", str(out), "--json"]) as process:
        answer, complaint = process.communicate(timeout=600)
    assert process.returncode == 0, complaint
    document = json.loads(answer)
    assert document["test"]["onnxruntime"]["accuracy"] > 0.95
    assert document["test"]["onnxruntime"]["confusion"] == document["test"]["torch"]["confusion"]
    assert all(item["passed"] for item in document["verify"])
    with (out / "predictions.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == document["predict"]["num_predicted"] == 359
    assert Bundle.open(out / "digits").provenance["architecture"] == "cnn"
    page = (out / "report.html").read_text()
    for part in ("Learning curves", "Confusion matrix", "Error against the noise floor", "Latency", "Some digits"):
        assert part in page
    assert "http" not in page
    assert "src=" in page
    assert page.count('src="data:image/png;base64,') == page.count("src=")
