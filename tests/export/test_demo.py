"""The demo: the whole line, and a page that needs no network."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

from onward.bundle import Bundle

#: `onward demo`, with fewer rounds of its bench: they make its figures surer, and take half a minute.
DEMO = """
import dataclasses, runpy
import onward_export.demo
onward_export.demo.BENCH = dataclasses.replace(onward_export.demo.BENCH, num_rounds=2, max_warm_up_s=0.1, pause_s=0.01)
runpy.run_module("onward", run_name="__main__", alter_sys=True)
"""


def test_the_demo_makes_everything_that_it_names(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    result = subprocess.run(
        [sys.executable, "-c", DEMO, "demo", "--out", str(out), "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
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
