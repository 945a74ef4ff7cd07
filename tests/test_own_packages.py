"""A project whose own packages are named as Onward's folders are: every command runs in it, and runs its code.

Each command is a process of its own, started in the project's folder, once as `onward` and once as `python -m onward`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.long

NET = """
import onward_utils.activations
import tests.shapes
from export.scaling import SCALE
from runtime.head import head
from torch import nn
from training.layers import hidden

class Network(nn.Module):
    def __init__(self, num_inputs: int, num_classes: int) -> None:
        super().__init__()
        assert num_inputs == tests.shapes.NUM_PIXELS
        self.layers = nn.Sequential(nn.Flatten(), hidden(num_inputs, 16), onward_utils.activations.Activation())
        self.head = head(16, num_classes)

    def forward(self, x):
        return self.head(SCALE * self.layers(x))
"""
FILES = {
    "net.py": NET,
    "training/layers.py": "from torch import nn\n\ndef hidden(size, out):\n    return nn.Linear(size, out)\n",
    "training/commands.py": "raise ImportError('the training.commands of the project was imported')\n",
    "export/scaling.py": "SCALE = 2.0\n",
    "export/commands.py": "raise ImportError('the export.commands of the project was imported')\n",
    "runtime/head.py": "from torch import nn\n\ndef head(size, out):\n    return nn.Linear(size, out)\n",
    "runtime/settings.py": "LIMIT = 3\n",
    "tests/shapes.py": "NUM_PIXELS = 64\n",
    "onward_utils/activations.py": "from torch import nn\n\nclass Activation(nn.ReLU):\n    pass\n",
    "app.py": """
import sys
import numpy as np
import onward
import runtime
from runtime.settings import LIMIT

with onward.load("artifacts/digits") as classifier:
    predictions = classifier(np.load("images.npy")[:LIMIT])
    assert classifier.verify().passed
assert runtime.__file__.startswith(sys.path[0]), runtime.__file__
assert "torch" not in sys.modules
print(*predictions.indices)
""",
}
IMAGES = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), np.uint8)
MODEL = ("--model", "net.py:Network")
CONSOLE_SCRIPT = Path(sys.executable).with_name("onward")
STARTS = {"onward": [str(CONSOLE_SCRIPT)], "python -m onward": [sys.executable, "-m", "onward"]}


def run(project: Path, *command: object) -> str:
    """Run a command in the project's folder; its standard output."""
    if command[0] == str(CONSOLE_SCRIPT) and not CONSOLE_SCRIPT.exists() and not os.environ.get("CI"):
        pytest.skip("the command `onward` is not installed beside this Python")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        list(map(str, command)), cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert result.returncode == 0, result.stderr
    assert "cannot be imported" not in result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project, with a checkpoint that `onward train` wrote."""
    folder = tmp_path_factory.mktemp("project")
    for name, code in FILES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(code)
        if path.parent != folder:
            (path.parent / "__init__.py").touch()
    np.save(folder / "images.npy", IMAGES)
    options = ("--data", "digits", *MODEL, "--epochs", 1, "--out", "digits.pt", "--json")
    (folder / "trained.json").write_text(run(folder, *STARTS["onward"], "train", *options))
    return folder


@pytest.fixture(scope="module")
def bundle(project: Path) -> Path:
    """A bundle that `python -m onward export` made of it, in every format."""
    run(project, *STARTS["python -m onward"], "export", "digits.pt", *MODEL, "--out", "artifacts/digits")
    return project / "artifacts" / "digits"


@pytest.mark.parametrize("start", STARTS)
def test_the_help_names_every_command(project: Path, start: str) -> None:
    text = run(project, *STARTS[start], "--help")
    for command in ("train", "evaluate", "export", "predict", "bench"):
        assert f" {command} " in text


def test_the_checkpoint_is_evaluated(project: Path) -> None:
    evaluated = json.loads(run(project, *STARTS["python -m onward"], "evaluate", "digits.pt", *MODEL, "--json"))
    assert evaluated.items() >= json.loads((project / "trained.json").read_text())["test"].items()


def test_the_exported_model_is_the_projects_network(project: Path, bundle: Path) -> None:
    inspected = json.loads(run(project, *STARTS["onward"], "inspect", bundle, "--json"))
    assert [artifact["name"] for artifact in inspected["artifacts"]] == ["onnx", "torchscript", "pt2"]
    assert inspected["provenance"]["architecture"] == "net.py:Network"


@pytest.mark.parametrize("start", STARTS)
def test_images_are_predicted(project: Path, bundle: Path, start: str) -> None:
    rows = run(project, *STARTS[start], "predict", bundle, "images.npy", "--out", "-").splitlines()
    assert [json.loads(row)["input"] for row in rows] == [f"images.npy[{index}]" for index in range(len(IMAGES))]


def test_an_app_with_a_package_named_runtime_loads_the_bundle(project: Path, bundle: Path) -> None:
    assert len(run(project, sys.executable, "app.py").split()) == 3
