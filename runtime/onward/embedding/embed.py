"""Embed: write a bundle as the folder of an app, from the templates of a target platform."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from string import Template
from typing import Any, TypedDict

from onward import __version__
from onward.bundle import Artifact, Bundle
from onward.bundle.onnx_content import read_onnx
from onward.embedding import triton
from onward.embedding.browser_runtime import BrowserRuntime
from onward.embedding.golden_samples import write_golden_samples
from onward.errors import UsageError
from onward.files import check_writable, staged_folder
from onward.signature import Signature

__all__ = ["MODEL_JSON", "TARGETS", "EmbedKeywords", "EmbedOptions", "Embedding", "Target", "embed", "find"]


@dataclass(frozen=True)
class Target:
    """A kind of app.

    Args:
        name: The value of `--target`.
        templates: Folders of templates/, copied in this order.
        next_steps: Commands to run in the app's folder.
        takes_tensors: Whether it also serves models that take tensors.
    """

    name: str
    templates: tuple[str, ...]
    next_steps: tuple[str, ...]
    takes_tensors: bool = False


TARGETS = {
    target.name: target
    for target in (
        Target(
            "python",
            ("python",),
            (
                "python -m pip install -r requirements.txt",
                "python classifier.py --self-test",
                "python classifier.py photo.jpg",
            ),
        ),
        Target("node", ("javascript", "node"), ("npm install", "npm test", "node cli.js photo.jpg")),
        Target("web", ("javascript", "web"), ("python3 serve.py",)),
        Target("triton", ("triton",), ("tritonserver --model-repository=.",), takes_tensors=True),
    )
}


def find(name: str) -> Target:
    """Find a target by name.

    Raises:
        UsageError: There is no such target.
    """
    if name not in TARGETS:
        raise UsageError(f"there is no target {name!r}; expected one of {', '.join(TARGETS)}.")
    return TARGETS[name]


TEMPLATES = Path(__file__).parent / "templates"
#: Describes the model to the app, and marks a folder as an app of Onward.
MODEL_JSON = "model.json"
FORMAT = 1
#: Only these files get the app's name, of letters, digits and hyphens. Apps read everything else from model.json.
FILLED = ("README.md", "package.json")


@dataclass(frozen=True)
class EmbedOptions:
    """How to write an app.

    Args:
        title: The title that users see. Default: the name of the bundle's folder.
        overwrite: Whether to replace an app of Onward in that folder.
        browser_runtime: Where onnxruntime-web comes from, for the web target.
        artifact: The name of the ONNX artifact. Default: the preferred one, in float32.
    """

    title: str | None = None
    overwrite: bool = False
    browser_runtime: BrowserRuntime | None = None
    artifact: str | None = None


class EmbedKeywords(TypedDict, total=False):
    """The fields of `EmbedOptions`, as keywords of a function."""

    title: str | None
    overwrite: bool
    browser_runtime: BrowserRuntime | None
    artifact: str | None


@dataclass(frozen=True)
class Embedding:
    """A written app.

    Args:
        path: Its folder.
        target: Its target platform.
        sizes_bytes: Sizes of `model`, `runtime` (0 where a package manager installs it), `golden` (only for the
            self-test) and `app`.
    """

    path: Path
    target: Target
    sizes_bytes: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "path": str(self.path),
            "target": self.target.name,
            "sizes_bytes": self.sizes_bytes,
            "next_steps": list(self.target.next_steps),
        }


def embed(bundle: Bundle, target_name: str, out: Path, options: EmbedOptions | None = None) -> Embedding:
    """Write an app around the bundle's ONNX file.

    The same bundle and options give the same bytes. The folder is written completely or not at all.

    Args:
        bundle: An opened bundle with an ONNX artifact.
        target_name: `python`, `node`, `web` or `triton`.
        out: The app's folder, new or empty.
        options: Title, overwrite and browser runtime.

    Raises:
        BundleError: There is no ONNX artifact, or none of the name that was given, or a file was changed.
        OutputError: The folder cannot be written.
        UsageError: The target is unknown or cannot serve this model; the artifact is not ONNX; the folder is not empty;
            onnxruntime-web is needed and was not given.
    """
    options = options or EmbedOptions()
    target = find(target_name)
    artifact = _choose(bundle, options.artifact)
    _check_serves(target, bundle, artifact)
    _check_free(out, options.overwrite)
    browser_files: dict[str, bytes] = {}
    if target.name == "web":
        browser_files = (options.browser_runtime or BrowserRuntime()).read()
    title = options.title or bundle.path.resolve().name
    name = slug(bundle.path.resolve().name)
    with staged_folder(out) as staged:
        if target.name == "triton":
            model = triton.write_repository(bundle, artifact, staged, name)
        else:
            model = _write_model(bundle, artifact, staged)
            write_golden_samples(bundle, artifact, staged / "golden")
        _write(staged / MODEL_JSON, _describe(bundle, artifact, title, model))
        for path, content in browser_files.items():
            _write(staged / "onnxruntime" / path, content)
        for path, content in _templates(target, name):
            _write(staged / path, content)
        sizes = _sizes(staged, PurePosixPath(model).name)
    return Embedding(out, target, sizes)


def slug(name: str) -> str:
    """A name of lower-case letters, digits and hyphens, for package managers and servers."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "model"


def _choose(bundle: Bundle, name: str | None) -> Artifact:
    artifact = bundle.preferred("onnx") if name is None else bundle.artifact(name)
    if artifact.format != "onnx":
        raise UsageError(f"an app runs an ONNX file, and the artifact {artifact.name!r} is {artifact.format}.")
    return artifact


def _check_serves(target: Target, bundle: Bundle, artifact: Artifact) -> None:
    if not isinstance(bundle.signature, Signature) and not target.takes_tensors:
        raise UsageError(
            f"{bundle.path} takes tensors, {bundle.signature.describe()}, but a {target.name} app takes images. "
            "Use `--target triton`, or run model.onnx directly."
        )
    if target.name == "web" and bundle.beside(artifact):
        raise UsageError(
            f"{bundle.path} has its weights in a file of their own, which a page does not load. That is so above "
            "2 GiB, or above the `external_data_above_bytes` that onward.export was given."
        )


def _check_free(out: Path, overwrite: bool) -> None:
    if not out.exists():
        check_writable(out)
        return
    if not out.is_dir():
        raise UsageError(f"{out} is a file; expected a new or empty folder.")
    if not any(out.iterdir()):
        return
    if not overwrite:
        raise UsageError(f"{out} is not empty. Name another folder, or replace the app in it with --overwrite.")
    if not (out / MODEL_JSON).is_file():
        raise UsageError(f"{out} is not an app of Onward ({MODEL_JSON} is missing): not replaced. Name another folder.")


def _write_model(bundle: Bundle, artifact: Artifact, staged: Path) -> str:
    """Write the model and its external data; return its path in the folder."""
    for path, content in read_onnx(bundle, artifact).items():
        _write(staged / path, content)
    return artifact.file.path


def _describe(bundle: Bundle, artifact: Artifact, title: str, model: str) -> bytes:
    """The content of model.json."""
    document = {
        "format": FORMAT,
        "title": title,
        "model": asdict(artifact.file) | {"path": model},
        "beside": [
            asdict(file) | {"path": PurePosixPath(model).with_name(PurePosixPath(file.path).name).as_posix()}
            for file in bundle.beside(artifact)
        ],
        "signature": bundle.signature.to_json(),
        "licence": bundle.provenance.get("licence"),
        "made_by": f"onward {__version__}",
    }
    if not artifact.is_float32:
        fidelity = artifact.fidelity and artifact.fidelity.to_json()
        document |= {"precision": artifact.precision, "fidelity": fidelity}
    return (json.dumps(document, indent=2, ensure_ascii=True) + "\n").encode()


def _templates(target: Target, name: str) -> Iterator[tuple[str, bytes]]:
    for folder in target.templates:
        root = TEMPLATES / folder
        for path in sorted(root.rglob("*")):
            relative = path.relative_to(root)
            if path.is_dir() or "__pycache__" in relative.parts:
                continue
            content = path.read_bytes()
            if relative.as_posix() in FILLED:
                content = Template(content.decode()).safe_substitute(name=name).encode()
            yield relative.as_posix(), content


def _sizes(folder: Path, model: str) -> dict[str, int]:
    sizes = {"model": 0, "runtime": 0, "golden": 0, "app": 0}
    for path in folder.rglob("*"):
        if path.is_file():
            sizes[_part(path.relative_to(folder), model)] += path.stat().st_size
    return sizes


def _part(relative: Path, model: str) -> str:
    if relative.name == model or relative.name.startswith(f"{model}."):
        return "model"
    return {"onnxruntime": "runtime", "golden": "golden"}.get(relative.parts[0], "app")


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
