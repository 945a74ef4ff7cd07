"""Bill of materials: what a bundle is made of, for tools that keep account of software and models.

The format is CycloneDX 1.6 (ECMA-424) in JSON, with a model card: an ML-BOM. It says what the manifest says and nothing
about the machine, so a bundle always has the same one.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from onward import __version__
from onward.bundle.artifact import Artifact, FileDigest
from onward.bundle.bundle import Bundle
from onward.printable import escape_json

__all__ = ["BILL_OF_MATERIALS", "bill_of_materials", "bill_text"]

#: Its file, in bundles that carry one.
BILL_OF_MATERIALS = "bom.cdx.json"
#: Libraries whose versions the provenance names; these made the bundle.
LIBRARIES = ("torch", "onnx", "onnxscript", "onnxruntime")
#: What training stores of its result -> the name of the metric and of the data that it was measured on.
METRICS = {
    "train_loss": ("loss", "training"),
    "validation_loss": ("loss", "validation"),
    "validation_accuracy": ("accuracy", "validation"),
}


def bill_text(bundle: Bundle) -> str:
    """The bill of materials as the text of its file."""
    return escape_json(json.dumps(bill_of_materials(bundle), indent=2, ensure_ascii=False)) + "\n"


def bill_of_materials(bundle: Bundle) -> dict[str, Any]:
    """A CycloneDX document: the model with its card, its files with their digests, the data set, and the libraries."""
    files = [file for file in bundle.files if file.path != BILL_OF_MATERIALS]
    model = _model(bundle)
    libraries = list(_libraries(bundle.provenance))
    components = [
        *(_artifact(artifact) for artifact in bundle.artifacts),
        *(_file(file) for file in files),
        *_data(bundle.provenance),
        *libraries,
    ]
    content = {
        "metadata": {
            "tools": {"components": [{"type": "application", "name": "onward", "version": _onward(bundle)}]},
            "component": model,
        },
        "components": components,
        "dependencies": [
            {"ref": model["bom-ref"], "dependsOn": [item["bom-ref"] for item in components]},
            *_requirements(bundle, libraries),
        ],
    }
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).digest()
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.UUID(bytes=digest[:16], version=4)}",
        "version": 1,
        **content,
    }


def _model(bundle: Bundle) -> dict[str, Any]:
    provenance, signature = bundle.provenance, bundle.signature
    architecture = str(provenance.get("architecture", "model"))
    parameters: dict[str, Any] = {"task": signature.task, "modelArchitecture": architecture}
    if _data(provenance):
        parameters["datasets"] = [{"ref": "data"}]
    parameters["inputs"] = [
        {"format": f"{item.name}: {item.dtype} {item.described_shape}"} for item in signature.inputs
    ]
    parameters["outputs"] = [
        {"format": f"{item.name}: float32 (batch, {', '.join(map(str, signature.sizes(item)))})"}
        for item in signature.outputs
    ]
    model: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": architecture,
        "modelCard": {
            "modelParameters": parameters,
            "quantitativeAnalysis": {"performanceMetrics": list(_metrics(bundle))},
        },
    }
    if licence := provenance.get("licence"):
        model["licenses"] = [{"license": {"name": str(licence)}}]
    return model


def _metrics(bundle: Bundle) -> Iterator[dict[str, str]]:
    for key, (metric, data) in METRICS.items():
        if key in bundle.provenance:
            yield {"type": metric, "value": str(bundle.provenance[key]), "slice": f"{data} data"}
    for artifact in bundle.artifacts:
        found = {"noise ratio": artifact.noise_ratio} if artifact.is_float32 else _fidelity(artifact)
        for metric, value in found.items():
            yield {"type": metric, "value": f"{value:.4f}", "slice": f"artifact {artifact.name}"}


def _fidelity(artifact: Artifact) -> dict[str, float]:
    """What an artifact of lower precision loses against its parent, where that is known."""
    if (found := artifact.fidelity) is None:
        return {}
    figures = {"accuracy lost at most (95 %)": found.loss_bound, "agreement with float32": found.agreement}
    return {metric: value for metric, value in figures.items() if value is not None}


def _artifact(artifact: Artifact) -> dict[str, Any]:
    properties = {"artifact": artifact.name, "format": artifact.format, "precision": artifact.precision}
    if artifact.opset is not None:
        properties["opset"] = str(artifact.opset)
    if artifact.parent:
        properties["parent"] = artifact.parent
    return _file(artifact.file) | {
        "properties": [{"name": f"onward:{name}", "value": value} for name, value in properties.items()]
    }


def _file(file: FileDigest) -> dict[str, Any]:
    return {
        "type": "file",
        "bom-ref": f"file:{file.path}",
        "name": file.path,
        "hashes": [{"alg": "SHA-256", "content": file.sha256}],
    }


def _data(provenance: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The data set that the model was trained on, where it is known."""
    if not provenance.get("data"):
        return []
    name = str(provenance["data"])
    return [{"type": "data", "bom-ref": "data", "name": name, "data": [{"type": "dataset", "name": name}]}]


def _libraries(provenance: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for name in LIBRARIES:
        if name in provenance:
            number = str(provenance[name])
            purl = f"pkg:pypi/{name}@{quote(number)}"
            yield {"type": "library", "bom-ref": purl, "name": name, "version": number, "purl": purl}


def _requirements(bundle: Bundle, libraries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What an artifact needs to run, of the libraries with a known version."""
    needs = {"onnx": ["onnxruntime"], "torchscript": ["torch"], "pt2": ["torch"]}
    refs = {item["name"]: item["bom-ref"] for item in libraries}
    return [
        {
            "ref": f"file:{item.file.path}",
            "dependsOn": [refs[name] for name in needs.get(item.format, []) if name in refs],
        }
        for item in bundle.artifacts
    ]


def _onward(bundle: Bundle) -> str:
    return str(bundle.provenance.get("onward", __version__))
