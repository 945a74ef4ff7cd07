"""The journeys of docs/getting-started.md, command by command, in a folder of photographs such as people have them."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

pytestmark = pytest.mark.long
PAGE = Path(__file__).parent.parent / "docs" / "getting-started.md"
JOURNEY = re.compile(r"<!-- journey: (\w+) -->\n```sh\n(.*?)```", re.DOTALL)
JOURNEYS = {name: commands.replace("\\\n", "").splitlines() for name, commands in JOURNEY.findall(PAGE.read_text())}
CLASSES = ("cat", "dog")
NET = """
from torch import nn

class Network(nn.Sequential):
    def __init__(self, num_classes):
        head = nn.Linear(576, num_classes)
        super().__init__(nn.Conv2d(3, 4, 3, stride=4), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), head)
"""
#: Shorter here: their figures are of no interest.
QUICK = shlex.split("--process-runs 1 --rounds 1 --threads 1 --batch-sizes 1 --backends onnxruntime --no-files")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Photographs of two classes: of many sizes, some turned, some CMYK, one broken; and somebody's weights."""
    folder, generator = tmp_path, np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(24):
            width, height = generator.integers(40, 120, 2)
            image = Image.fromarray(generator.integers(0, 90, (height, width, 3), np.uint8) + np.uint8(120 * label))
            exif = Image.Exif()
            exif[0x0112] = 6 if number % 8 == 2 else 1
            image = image.convert("CMYK") if number % 8 == 1 else image
            image.save(folder / "photos" / name / f"{number}.jpg", exif=exif)
    (folder / "photos" / "cat" / "broken.jpg").write_bytes((folder / "photos" / "cat" / "0.jpg").read_bytes()[:400])
    (folder / "net.py").write_text(NET)
    (folder / "labels.txt").write_text("cat\ndog\n")
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=4), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(576, 2)
    )
    torch.save({"state_dict": network.state_dict()}, folder / "theirs.pth")
    return folder


def test_every_command_of_every_journey_works(place: Path, onward) -> None:
    assert list(JOURNEYS) == list(CHECKS)
    for name, check in CHECKS.items():  # in this order: the apps are made of the first journey's model
        said = {}
        for line in JOURNEYS[name]:
            program, command, *options = shlex.split(line)
            assert program == "onward"
            result = onward(command, *options, *(QUICK if command == "bench" else ()), cwd=place)
            said[command] = result.stdout + result.stderr
            # the broken photograph got no answer
            assert result.returncode == (command == "predict"), said[command]
        check(place, said)


def check_photographs(place: Path, said: dict[str, str]) -> None:
    assert "CMYK" in said["train"]
    assert "cat/broken.jpg" in said["predict"]
    rows = (place / "answers.csv").read_text().splitlines()[1:]
    assert len(rows) == 48
    assert sum(Path(row.split(",")[0]).parent.name == row.split(",")[1] for row in rows) > 44
    assert (place / "pets.html").is_file()


def check_weights(place: Path, said: dict[str, str]) -> None:
    assert "4.weight" in said["inspect"]
    assert "passed" in said["verify"]


def check_apps(place: Path, said: dict[str, str]) -> None:
    photo = place / "photos" / "dog" / "1.jpg"
    for options, found in (("--self-test",), "Passed."), ((photo,), f"{photo}: dog "):
        command = [sys.executable, "classifier.py", *map(str, options)]
        done = subprocess.run(command, cwd=place / "app" / "python", capture_output=True, text=True, check=True)
        assert found in done.stdout
    assert (place / "app" / "page" / "onnxruntime").is_dir()
    assert (place / "bench.html").is_file()


CHECKS: dict[str, Callable[[Path, dict[str, str]], None]] = {
    "photographs": check_photographs,
    "weights": check_weights,
    "apps": check_apps,
}
