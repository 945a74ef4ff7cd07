"""What the documents promise: code runs, the architecture page lists the rooms that are there, links lead somewhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from onward.bundle import Bundle

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "artifacts" / "README.md"]


def python_blocks(document: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL)


def test_the_five_lines_of_plain_onnxruntime_give_the_label(
    shared_bundle: Bundle, pixels: np.ndarray, tmp_path: Path
) -> None:
    blocks = python_blocks(ROOT / "README.md")
    code = next(block for block in blocks if "ort.InferenceSession" in block).replace("(28, 28)", "(8, 8)")
    assert len([line for line in code.splitlines() if line and "import" not in line]) == 5
    shutil.copytree(shared_bundle.path, tmp_path / "artifacts" / "fashion")
    Image.fromarray(pixels[3, ..., 0]).save(tmp_path / "boot.png")
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    expected = subprocess.run(
        [sys.executable, "-m", "onward", "predict", "artifacts/fashion", "boot.png", "--out", "-", "--quiet"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert f'"label": "{result.stdout.strip()}"' in expected.stdout


def test_embedding_repeats_the_readmes_lines() -> None:
    """What is run of the README is so run of docs/embedding.md, too."""
    block = next(block for block in python_blocks(ROOT / "README.md") if "ort.InferenceSession" in block)
    assert block in python_blocks(ROOT / "docs" / "embedding.md")


def test_the_example_of_load_runs(shared_bundle: Bundle, pixels: np.ndarray, tmp_path: Path) -> None:
    code = next(block for block in python_blocks(ROOT / "docs" / "embedding.md") if "onward.load" in block)
    shutil.copytree(shared_bundle.path, tmp_path / "artifacts" / "fashion")
    Image.fromarray(pixels[3, ..., 0]).save(tmp_path / "boot.png")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    label, count, ratio = result.stdout.splitlines()
    assert label.split()[0] in shared_bundle.signature.labels
    assert count == "500 (500, 10) float32"
    assert float(ratio.removeprefix("noise ratio ")) <= 3


@pytest.mark.parametrize("package", ["runtime/onward", "training/onward_training", "export/onward_export"])
def test_architecture_lists_the_rooms_that_are_there(package: str) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    section = text.split(f"### `{Path(package).name}`\n")[1].split("\n#")[0]
    listed = re.findall(r"^\| `([a-z_]+)/` \|", section, re.MULTILINE)
    assert listed == sorted(path.parent.name for path in (ROOT / package).glob("*/__init__.py"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_that_are_there(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"
