"""Fast to say no: names, options and paths are refused before PyTorch is imported, with the value that was meant."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import zipfile
from typing import Any

import pytest

#: Runs each command of standard input, in a process where importing PyTorch is an error.
PROGRAM = """
import contextlib, io, json, shlex, sys
from onward.cli.app import app
from onward.cli.console import _exit_code

class Forbidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "timm"):
            raise AssertionError(f"{name} is imported")

sys.meta_path.insert(0, Forbidden())
answers = {}
for line in sys.stdin.read().splitlines():
    errors = io.StringIO()
    sys.argv = ["onward", *shlex.split(line)]
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(errors):
        try:
            code = _exit_code(app, "onward")
        except AssertionError as error:
            code = repr(error)
    answers[line] = [code, errors.getvalue()]
print(json.dumps(answers))
"""
#: Command -> what its error says.
REFUSED = {
    "train --data photos": "There is a folder photos: --data folder:photos",
    "train --data digit": "Did you mean digits?",
    "train --data folder:foto": "folder:foto does not exist, or is not a folder. Did you mean photos?",
    "train --data folder": "data set 'folder' is unknown",
    "train --data digits --image-size 28x28": "digits has a fixed image size",
    "train --data digits --exif apply": "exif is only for folder:PATH",
    "train --data folder:photos --exif maybe": "exif is 'maybe', expected ignore or apply",
    "train --data mnist --data-dir photos": "photos does not hold mnist",
    "train --model mobilenet_v3_small": "Did you mean torchvision:mobilenet_v3_small?",
    "train --model resnet18": "Did you mean torchvision:resnet18",
    "train --model clasifier": "Did you mean classifier?",
    "train --model torchvision:resnet19": "nearest: resnet18",
    "train --model nothing.py:Network": "nothing.py does not exist.",
    "train --model net.py": "net.py:NAME is the network NAME in that file.",
    "train --model-args 7": "--model-args is 7",
    "train --optimizer sdg": "optimizer 'sdg' is unknown, expected one of adam, adamw, sgd. Did you mean sgd?",
    "train --schedule cosin": "Did you mean cosine?",
    "train --augment flop": "augmentation 'flop' is unknown",
    "train --precision float8": "precision 'float8' is unknown",
    "train --device gpu": "device 'gpu' is unknown, expected one of auto, cpu, cuda, mps.",
    "train --final-activation softmx": "Did you mean softmax?",
    "train --epochs 0": "epochs is 0",
    "train --freeze-epochs 1": "whose weights are random: add --weights",
    "train --weights DEFAULT": "--weights DEFAULT is for torchvision:NAME and timm:NAME, and the network is classifier",
    "train --logger tensorbord": "Did you mean tensorboard?",
    "train --logger mlflow:postgresql://me:secret@host/db": "has a password in it",
    "train --config nothing.toml": "nothing.toml cannot be read",
    "train --weights weight.pth": "weight.pth does not exist. Did you mean weights.pth?",
    "train --out photos": "photos",
    "train --out net.py/x.pt": "net.py",
    "evaluate nothing.pt": "nothing.pt does not exist.",
    "evaluate digitz.pt": "`onward train --out digitz.pt` creates it. Did you mean digits.pt?",
    "evaluate digits.pt --data digit": "Did you mean digits?",
    "evaluate digits.pt --mean a": "'a' is not a list of numbers",
    "evaluate digits --exif apply": "digits is a bundle, and its signature says how images become its",
    "evaluate weights.pth --model cnn": "weights.pth does not say what it was trained on: --data names images",
    "evaluate torchvision:resnet18 --data digits": "names a model: add --weights FILE with its weights, or --weights "
    "DEFAULT for those that are published.",
    "evaluate cnn --weights DEFAULT": "--weights DEFAULT is for torchvision:NAME and timm:NAME",
    "evaluate digits.pt --weights weights.pth": "digits.pt is a file or folder, and --weights names another one",
    "evaluate digits --weights weights.pth": "digits is a file or folder, and --weights names another one",
    "evaluate torchvision:resnet18 --model cnn --weights weights.pth": "and --model cnn another one: leave one of them",
    "evaluate photos": "photos is a folder, expected a checkpoint or a weights file.",
    "export nothing.pt": "nothing.pt does not exist.",
    "export digits": "digits is a bundle, expected a checkpoint or a weights file. The checkpoint beside it: digits.pt",
    "export digits/model.onnx": "model.onnx is an ONNX file, expected a checkpoint or a weights file. "
    "The checkpoint beside it: digits.pt",
    "export cnn": "cnn names a model: add --weights FILE with its weights.",
    "export digits.pt --opset 99": "opset is 99",
    "export digits.pt --formats onx": "formats are onx",
    "export digits.pt --out photos": "photos exists and is not a bundle",
    "export digits.pt --data digit": "Did you mean digits?",
    "export digits.pt --image-size 28x28x2": "--image-size is '28x28x2', expected a side such as 224",
    "train --data folder:photos --resize squash": "--resize is 'squash', expected stretch or shorter-side:PIXELS",
    "train --data digits --resize stretch": "digits is in memory at a fixed size",
    "export digits.pt --model resnet18 --weights x": "Did you mean torchvision:resnet18",
    "export digits.pt --out digits": "digits is a bundle already. --overwrite replaces it, another --out keeps it.",
    "export digits.pt": "digits is a bundle already.",
    "inspect digitz.pt": "digitz.pt does not exist: expected a bundle, an ONNX file, a checkpoint or a weights file. "
    "Did you mean digits.pt?",
    "predict digits.pt photos": "digits.pt is a checkpoint, expected a bundle. The bundle beside it: digits",
    "predict other.pt photos": "`onward export other.pt` makes a bundle of it.",
    "predict weights.pth photos": "`onward export weights.pth --model NAME` makes a bundle of it",
    "predict digit photos": "digit is not a bundle: there is no such folder. "
    "`onward export CHECKPOINT --out digit` makes a bundle. Did you mean digits?",
    "verify other": "`onward export other.pt --out other` makes a bundle.",
    "verify photos": "photos is not a bundle: it has no manifest.json.",
    "verify digits/parity.html": "is a file of a bundle, expected the bundle's folder: digits",
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Command -> exit code and what it printed, in a folder with files of each kind."""
    folder = tmp_path_factory.mktemp("refusals")
    (folder / "photos" / "cat").mkdir(parents=True)
    (folder / "digits").mkdir()
    for name in ("digits/manifest.json", "digits/model.onnx", "digits/parity.html", "net.py"):
        (folder / name).write_text("{}")
    for name, content in (
        ("digits.pt", "onward.checkpoint/1"),
        ("other.pt", "onward.checkpoint/1"),
        ("weights.pth", ""),
    ):
        with zipfile.ZipFile(folder / name, "w") as archive:
            archive.writestr("archive/data.pkl", content)
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input="\n".join(REFUSED),
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(result.stdout)
    return found


@pytest.mark.parametrize("command", REFUSED)
def test_it_is_refused_without_pytorch(answers: dict[str, Any], command: str) -> None:
    code, printed = answers[command]
    assert code == 2, printed
    assert REFUSED[command] in " ".join(line.removeprefix("onward: ") for line in printed.splitlines())


def test_each_command_is_one_that_a_shell_would_pass_on() -> None:
    assert all(shlex.join(shlex.split(command)) == command for command in REFUSED)
