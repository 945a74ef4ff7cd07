"""From a folder of photographs to the first answers: Onward beside Ultralytics, three commands each, in turns.

The two train different networks (the small `cnn`; yolo11n-cls without published weights), so the accuracies are not
compared, only what a user waits for. Ultralytics lives in an environment of its own: `--yolo` is its program.

    python -m benchmarks.first_result --yolo PATH/TO/yolo
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

from onward.cli.console import print_table, say
from onward.host.fingerprint import take_fingerprint

CLASSES = ("china", "flower")
NUM_PHOTOGRAPHS = 60
STEPS = ("train", "export", "predict")
EPOCHS, SIDE_PX = 8, 64


def main() -> int:
    """Run both in turns, and print the medians in seconds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_result", description=__doc__)
    parser.add_argument("--yolo", type=Path, required=True, help="the program of Ultralytics")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_photographs(folder / "photos")
        tools = {
            "Onward": onward_commands(),
            f"Ultralytics {version(arguments.yolo)}": yolo_commands(arguments.yolo.absolute()),
        }
        seconds: dict[str, list[list[float]]] = {tool: [] for tool in tools}
        for _ in range(arguments.rounds):
            for tool, commands in tools.items():
                seconds[tool].append(run(commands, folder / "photos", folder / "work"))
    rows = []
    for tool, rounds in seconds.items():
        each = [statistics.median(step) for step in zip(*rounds, strict=True)]
        rows.append([tool, *(f"{s:.1f}" for s in each), f"{statistics.median(map(sum, rounds)):.1f}"])
    print_table(["seconds", *(f">{step}" for step in STEPS), ">all"], rows)
    say(f"{arguments.rounds} rounds in turns, medians; {take_fingerprint().processor.model}")
    return 0


def make_photographs(folder: Path) -> None:
    """Crops of two photographs in many sizes, some of them CMYK or turned, and a broken file."""
    generator = np.random.default_rng(0)
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
        whole = Image.fromarray(load_sample_image(f"{label}.jpg"))
        for number in range(NUM_PHOTOGRAPHS):
            width, height = generator.integers(60, 200, 2)
            left, top = generator.integers(0, whole.width - width), generator.integers(0, whole.height - height)
            crop = whole.crop((left, top, left + width, top + height))
            exif = Image.Exif()
            exif[0x0112] = 6 if number % 10 == 2 else 1
            (crop.convert("CMYK") if number % 10 == 1 else crop).save(folder / label / f"{number:03}.jpg", exif=exif)
    whole_file = (folder / CLASSES[0] / "000.jpg").read_bytes()
    (folder / CLASSES[0] / "broken.jpg").write_bytes(whole_file[:500])


def onward_commands() -> list[list[str]]:
    """As docs/getting-started.md has them."""
    program = [sys.executable, "-m", "onward"]
    return [
        [*program, "train", "--data", "folder:photos", "--model", "cnn", "--epochs", str(EPOCHS), "--out", "pets.pt"],
        [*program, "export", "pets.pt", "--out", "pets"],
        [*program, "predict", "pets", "photos", "--out", "answers.csv", "--ok-with-errors"],
    ]


def yolo_commands(yolo: Path) -> list[list[str]]:
    """As its documentation has them, at the same image size."""
    weights = "runs/first/weights/best"
    return [
        [str(yolo), "classify", "train", "model=yolo11n-cls.yaml", "data=photos", f"epochs={EPOCHS}"]
        + [f"imgsz={SIDE_PX}", "device=cpu", "project=runs", "name=first"],
        [str(yolo), "export", f"model={weights}.pt", "format=onnx", f"imgsz={SIDE_PX}", "dynamic=True"],
        [str(yolo), "classify", "predict", f"model={weights}.onnx", "source=photos/*/*.jpg", f"imgsz={SIDE_PX}"],
    ]


def run(commands: list[list[str]], photographs: Path, folder: Path) -> list[float]:
    """Seconds of each command, in a new folder with the photographs."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(photographs, folder / "photos")
    environment = os.environ | {"YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": str(folder.parent)}
    seconds = []
    for command in commands:
        command = [
            item.replace("=photos", f"={folder / 'photos'}").replace("=runs", f"={folder / 'runs'}") for item in command
        ]
        begin = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        seconds.append(time.perf_counter() - begin)
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return seconds


def version(yolo: Path) -> str:
    """Of Ultralytics."""
    return subprocess.run([yolo, "version"], capture_output=True, text=True, check=True).stdout.split()[-1]


if __name__ == "__main__":
    raise SystemExit(main())
