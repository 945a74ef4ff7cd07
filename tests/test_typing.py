"""Types of the public face: what mypy says of a user's program, and that options are the fields of their class."""

from __future__ import annotations

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import get_type_hints

import pytest

import onward
from onward.benchmarking.spec import BenchKeywords, BenchOptions
from onward.embedding import EmbedKeywords, EmbedOptions
from onward.prediction import PredictKeywords, PredictOptions
from onward_export.options import ExportKeywords, ExportOptions
from onward_export.quantization import QuantizeKeywords, QuantizeOptions
from onward_training.options import TrainKeywords, TrainOptions

OPTIONS = {
    "bench": (BenchKeywords, BenchOptions),
    "embed": (EmbedKeywords, EmbedOptions),
    "export": (ExportKeywords, ExportOptions),
    "predict": (PredictKeywords, PredictOptions),
    "quantize": (QuantizeKeywords, QuantizeOptions),
    "train": (TrainKeywords, TrainOptions),
}
#: A user's program. mypy must report exactly the lines that say so.
PROGRAM = """
import onward

with onward.load("digits", threads=2) as classifier:
    labels: tuple[str, ...] = classifier("boot.png").labels
    number: int = classifier("boot.png").labels  # error
onward.load("digits", thread=2)  # error
onward.verify("digits", artifacts=["onnx"])[0].passed
onward.predict("digits", ["photos"], "rows.csv", top_k=3, resume="changed")
onward.predict("digits", ["photos"], "rows.csv", topk=3)  # error
onward.predict("digits", ["photos"], "rows.csv", resume="yes")  # error
onward.bench("digits", "model.onnx", batch_sizes=[1, 8], num_rounds=9)
onward.bench("digits", batch_sizes="1,8")  # error
onward.embed("digits", "web", "site", overwrite=True)
onward.embed("digits", "web", "site", titel="Digits")  # error
checkpoint = onward.train("digits", epochs=3, learning_rate=1e-3)
onward.train("digits", epochs="3")  # error
onward.train("digits", image_size=(8, 8), mean=0.5, std=[0.25], loggers=["tensorboard"], out="run.pt")
onward.train("digits", mean="0.5")  # error
onward.export(checkpoint, "digits", formats=["onnx"])
onward.export(checkpoint, "digits", opsett=18)  # error
onward.quantize("digits", "digits", weight_bits=8, budget=onward.Budget(max_loss=0.003))
onward.quantize("digits", images=["photos"], max_loss=0.003)  # error
onward.trian("digits")  # error
onward.os  # error
"""
#: Other packages' types are not looked at: numpy's and PyTorch's take most of a minute.
MYPY = """
[mypy]
strict = true
[mypy-numpy.*,torch.*,torchvision.*,onnx.*,onnxruntime.*,PIL.*,typer.*,rich.*,safetensors.*]
follow_imports = skip
[mypy-onward.*,onward_training.*,onward_export.*]
ignore_errors = true
"""


@pytest.mark.parametrize("name", OPTIONS)
def test_options_are_the_fields_of_their_class(name: str) -> None:
    keywords, options = OPTIONS[name]
    fields = {field.name for field in dataclasses.fields(options)}
    assert get_type_hints(keywords) == {
        field: hint for field, hint in get_type_hints(options).items() if field in fields
    }


def test_no_public_function_takes_any_keyword() -> None:
    """`**options` stands for the keywords that the function's class of options has, for no others."""
    functions = {name: value for name in onward.__all__ if inspect.isfunction(value := getattr(onward, name))}
    found = {
        name: arguments.annotations[arguments.varkw]
        for name, value in functions.items()
        if (arguments := inspect.getfullargspec(value)).varkw
    }
    assert found == {name: f"Unpack[{keywords.__name__}]" for name, (keywords, _) in OPTIONS.items()}


def test_no_other_module_is_seen_in_the_face() -> None:
    modules = {name: value for name, value in vars(onward).items() if isinstance(value, ModuleType)}
    strange = {name for name, value in modules.items() if not value.__name__.startswith("onward.")}
    assert {name for name in strange if not name.startswith("_")} == set()
    assert not set(modules) & set(dir(onward))


def test_mypy_finds_the_mistakes_of_a_user_and_no_others(tmp_path: Path) -> None:
    pytest.importorskip("mypy", reason="mypy is not installed here")
    (tmp_path / "program.py").write_text(PROGRAM)
    (tmp_path / "mypy.ini").write_text(MYPY)
    command = [sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--no-incremental", "program.py"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    reported = {int(line.split(":")[1]) for line in result.stdout.splitlines() if ": error: " in line}
    wrong = {number for number, line in enumerate(PROGRAM.splitlines(), 1) if line.endswith("# error")}
    assert reported == wrong, result.stdout + result.stderr
