"""The page docs/precision.md."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["write_page"]

HEAD = """# Lower precision, measured

`python -m benchmarks.precision --nncf PYTHON` trains four networks on Fashion-MNIST, quantises each with
[`onward quantize`](quantize.md), onnxruntime's `quantize_static` and NNCF, with the same 128 calibration images, and
writes this page. The two last ones are used at their defaults, with weights by channel.

- *points*: change of the accuracy on the test images. *agreement*: the share of them with the same answer as in
  float32. *KL*: the mean divergence from float32's probabilities, in nats.
- *float nodes*: nodes of onnxruntime's optimised graph that compute in float32, without the final softmax.
- *batch 1*, *batch 32*: how many times as fast as the float32 file in onnxruntime, in the same round, on all cores. The
  median over rounds A B A B, with the quartiles. Threads do not spin between inferences, because all files are open in
  one process; alone, a small network is faster at batch 1.
"""


def write_page(path: Path, found: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the page from the results of all networks."""
    sections = [_section(title, result) for title, result in found.items()]
    path.write_text(HEAD + "\n" + "\n".join(sections), encoding="utf-8")


def _section(title: str, result: Mapping[str, Any]) -> str:
    lines = [
        f"## {title}",
        "",
        f"Float32 is right for {result['accuracy']} of {result['num_images']:,} test images. Measured on "
        f"{result['processor']}.",
        "",
        "| file | points | agreement | KL | float nodes | MB | batch 1 | batch 32 |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name in result["speed"]["1"]:
        loss = result["loss"].get(name, ["", "", ""])
        nodes = result["float_nodes"].get(name, "")
        size = f"{result['mb'][name]:.2f}" if name in result["mb"] else ""
        cells = [name, *loss, nodes if name in result["loss"] else "", size]
        lines.append(f"| {' | '.join([*cells, *(result['speed'][batch][name] for batch in ('1', '32'))])} |")
    return "\n".join([*lines, ""])
