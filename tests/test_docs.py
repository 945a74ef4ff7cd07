"""What the documents promise: code runs, command lines parse, names exist, links lead somewhere, figures agree."""

from __future__ import annotations

import importlib
import importlib.util
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from PIL import Image

import onward
from onward.bundle import Bundle

ROOT = Path(__file__).parent.parent
DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "artifacts" / "README.md"]
GUIDES = [path for path in DOCUMENTS if path.name != "CHANGELOG.md"]
REFERENCE = ROOT / "docs" / "reference"
#: Options of other programs, and of the apps that `onward embed` writes.
OTHER_OPTIONS = {"--preload", "--self-test", "--help", "--model-repository", "--cov", "--version", "--logdir"}
FENCED = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^(?: {4}.*)?\n)+", re.MULTILINE)
INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
COMMAND = re.compile(r"(?:^|[\s(`|])onward +([a-z]+\b[^|<>;)]*)")


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def each(documents: list[Path]) -> Any:
    return pytest.mark.parametrize("document", documents, ids=relative)


# Python


def python_blocks(document: Path) -> list[str]:
    return [code for _, language, code in FENCED.findall(document.read_text()) if language == "python"]


def runnable_blocks() -> Iterator[Any]:
    for document in DOCUMENTS:
        text = document.read_text()
        for match in FENCED.finditer(text):
            if match[2] == "python" and not re.search(r"<!-- not run: .*-->\n+$", text[: match.start()]):
                line = text[: match.start()].count("\n") + 1
                yield pytest.param(match[3], id=f"{relative(document)}:{line}")


@pytest.fixture
def workplace(shared_bundle: Bundle, pixels: np.ndarray, tmp_path: Path) -> Path:
    """A folder with what the examples name: a bundle, one picture and a folder of pictures."""
    shutil.copytree(shared_bundle.path, tmp_path / "artifacts" / "fashion")
    (tmp_path / "photos").mkdir()
    for path in ("boot.png", "photos/1.png", "photos/2.png"):
        Image.fromarray(pixels[3, ..., 0]).save(tmp_path / path)
    return tmp_path


def run_code(code: str, folder: Path) -> str:
    command = [sys.executable, "-W", "error", "-c", code.replace("(28, 28)", "(8, 8)")]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("code", list(runnable_blocks()))
def test_python_blocks_run(code: str, workplace: Path) -> None:
    run_code(code, workplace)


@each(DOCUMENTS)
def test_python_blocks_compile_and_name_what_onward_has(document: Path) -> None:
    for code in python_blocks(document):
        compile(code, str(document), "exec")
        assert set(re.findall(r"\bonward\.([A-Za-z_]+)\(", code)) <= set(onward.__all__)


def test_the_five_lines_of_plain_onnxruntime_give_the_label(workplace: Path) -> None:
    blocks = python_blocks(ROOT / "docs" / "embedding.md")
    code = next(block for block in blocks if "ort.InferenceSession" in block)
    assert len([line for line in code.splitlines() if line and "import" not in line]) == 5
    label = run_code(code, workplace).strip()
    expected = subprocess.run(
        [sys.executable, "-m", "onward", "predict", "artifacts/fashion", "boot.png", "--out", "-", "--quiet"],
        cwd=workplace,
        capture_output=True,
        text=True,
        check=True,
    )
    assert f'"label": "{label}"' in expected.stdout


def test_the_example_of_load_prints_what_it_says(shared_bundle: Bundle, workplace: Path) -> None:
    code = next(block for block in python_blocks(ROOT / "docs" / "embedding.md") if "onward.load" in block)
    label, count, ratio = run_code(code, workplace).splitlines()
    assert label.split()[0] in shared_bundle.signature.labels
    assert count == "500 (500, 10) float32"
    assert float(ratio.removeprefix("noise ratio ")) <= 3


# Command lines


@pytest.fixture(scope="module")
def commands() -> dict[str, Any]:
    group: Any = typer.main.get_command(onward.app)
    return dict(group.commands)


def shell_lines(document: Path) -> Iterator[str]:
    """Every line of a code block, continued lines joined, and every piece of inline code."""
    text = document.read_text()
    blocks = [code for _, language, code in FENCED.findall(text) if language not in ("python", "javascript", "json")]
    without = FENCED.sub("", text)
    blocks += [block[0] for block in INDENTED.finditer(without)]
    for block in blocks:
        yield from block.replace("\\\n", " ").splitlines()
    yield from INLINE.findall(without)


def command_lines(document: Path) -> Iterator[list[str]]:
    for line in shell_lines(document):
        for match in COMMAND.finditer(line):
            yield shlex.split(match[1].rstrip("`."), comments=True)


@each(GUIDES)
def test_every_command_line_parses(document: Path, commands: dict[str, Any]) -> None:
    for name, *arguments in command_lines(document):
        assert name in commands, f"onward {name}"
        commands[name].make_context(f"onward {name}", arguments, resilient_parsing=True)


def test_every_command_has_examples_below_its_options_and_they_parse(commands: dict[str, Any]) -> None:
    for name, command in commands.items():
        examples = (command.epilog or "").split("\n")[2:]
        assert examples or name == "doctor", name
        for line in examples:
            program, example, *arguments = shlex.split(line.rpartition(" | ")[2])
            assert program == "onward"
            commands[example].make_context(line, arguments, resilient_parsing=True)
            assert set(re.findall(r"(?<= )--[a-z-]+", line)) <= {
                item for one in commands[example].params for item in one.opts
            }


@each(GUIDES)
def test_every_option_that_is_named_exists(document: Path, commands: dict[str, Any]) -> None:
    known = {
        name for command in commands.values() for item in command.params for name in (*item.opts, *item.secondary_opts)
    }
    for code in INLINE.findall(FENCED.sub("", document.read_text())):
        if not re.match(r"(pip|npm|python|uv|node|git|tritonserver|git) ", code):
            assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", code)) - known <= OTHER_OPTIONS, code


@each(GUIDES)
def test_modules_and_make_targets_that_are_named_exist(document: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for line in shell_lines(document):
        for module in re.findall(r"\bpython3? -m ((?:onward|benchmarks)[\w.]*)", line):
            assert importlib.util.find_spec(module), line
        if match := re.match(r"\s*make ([a-z-]+)", line):
            assert match[1] in targets, line


# Reference


def documented_names() -> list[str]:
    return [
        name for page in sorted(REFERENCE.glob("*.md")) for name in re.findall(r"^::: (\S+)", page.read_text(), re.M)
    ]


def test_the_python_page_documents_every_public_name() -> None:
    listed = {name.removeprefix("onward.") for name in documented_names() if name.count(".") == 1}
    assert set(onward.__all__) - listed == {"__version__", "app", "OnwardError"}  # in words, and on the page of errors


@pytest.mark.parametrize("name", documented_names())
def test_every_name_of_the_reference_exists(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    if importlib.util.find_spec(name.partition(".")[0]) and attribute != "errors":
        assert hasattr(importlib.import_module(module), attribute)


@pytest.mark.parametrize("package", ["runtime/onward", "training/onward_training", "export/onward_export"])
def test_architecture_lists_the_rooms_that_are_there(package: str) -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    section = text.split(f"### `{Path(package).name}`\n")[1].split("\n#")[0]
    listed = re.findall(r"^\| `([a-z_]+)/` \|", section, re.MULTILINE)
    assert listed == sorted(path.parent.name for path in (ROOT / package).glob("*/__init__.py"))


# Figures and links


def test_the_readmes_figures_are_those_of_the_benchmarks() -> None:
    """A speed or a ratio is measured once, and quoted from docs/benchmarks.md."""
    text = (ROOT / "README.md").read_text()
    quoted = re.findall(r"× ?(\d[\d.,]*)|(\d[\d.,]*) times|(\d[\d.,]*) images/s", text)
    measured = set(re.findall(r"\d[\d.,]*\d|\d", (ROOT / "docs" / "benchmarks.md").read_text()))
    assert {figure.rstrip(".,") for figures in quoted for figure in figures if figure} <= measured


@each(DOCUMENTS)
def test_links_lead_to_files_that_are_there(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_messages_of_troubleshooting_are_those_of_the_code() -> None:
    """Every piece between two `…` of a message stands in a source; f-strings are joined, their fields are `…`."""
    sources = [path.read_text() for floor in ("runtime", "training", "export") for path in (ROOT / floor).rglob("*.py")]
    code = re.sub(r'"\s*\n\s*f?"', "", "\n".join(sources))
    code = re.sub(r"\{[^{}\n]*\}", "…", code.replace("{MANIFEST}", "manifest.json"))
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    messages = [block for _, language, block in FENCED.findall(text) if language == "text" and "pets/" not in block]
    messages.remove("this needs torch, which is not installed: pip install 'onward[training]'\n")  # has two fields
    pieces = [piece.strip() for message in messages for piece in message.split("…")]
    assert [piece for piece in pieces if piece not in code] == []


def test_the_index_lists_every_decision() -> None:
    folder = ROOT / "docs" / "decisions"
    listed = re.findall(r"\]\((0\d+-[a-z0-9-]+\.md)\)", (folder / "README.md").read_text())
    assert listed == sorted(path.name for path in folder.glob("0*.md"))
