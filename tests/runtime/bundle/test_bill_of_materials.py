"""The bill of materials: CycloneDX that its own schema accepts, of any bundle."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace

import pytest

from onward.bundle import MANIFEST, Bundle, digest_file
from onward.bundle.bill_of_materials import BILL_OF_MATERIALS, bill_of_materials, bill_text
from tests.bundles import path_of
from tests.conftest import Onward

needs_cyclonedx = pytest.mark.skipif(
    importlib.util.find_spec("cyclonedx") is None, reason="cyclonedx-python-lib is not installed here"
)


@needs_cyclonedx
@pytest.mark.parametrize("name", ["digits", "five-inputs", "colour", "digits-int8"])
def test_it_is_cyclonedx(name: str) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    bundle = Bundle.open(path_of(name))
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(bill_text(bundle)) is None


def test_it_names_every_file_the_data_the_licence_and_the_libraries(bundle: Bundle, here: Onward) -> None:
    licensed = replace(bundle, provenance={**bundle.provenance, "licence": "Apache-2.0"})
    (bundle.path / MANIFEST).write_text(json.dumps(licensed.to_json()))
    document = json.loads(here("inspect", bundle.path, "--sbom").stdout)
    assert document == bill_of_materials(Bundle.open(bundle.path))
    hashes = {item["name"]: item["hashes"][0]["content"] for item in document["components"] if item["type"] == "file"}
    assert hashes == {file.path: file.sha256 for file in bundle.every_file}
    assert {item["name"] for item in document["components"] if item["type"] == "data"} == {"digits"}
    libraries = {item["name"]: item["version"] for item in document["components"] if item["type"] == "library"}
    assert libraries["torch"] == bundle.provenance["torch"]
    model = document["metadata"]["component"]
    assert model["licenses"] == [{"license": {"name": "Apache-2.0"}}]
    assert model["modelCard"]["modelParameters"]["task"] == "classification"
    metrics = {
        item["slice"]: item["value"] for item in model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    }
    assert metrics["artifact onnx"] == f"{bundle.artifact('onnx').noise_ratio:.4f}"


def test_a_bundle_that_carries_its_bill_has_the_same_one(bundle: Bundle) -> None:
    text = bill_text(bundle)
    (bundle.path / BILL_OF_MATERIALS).write_text(text)
    more = replace(bundle, files=(*bundle.files, digest_file(bundle.path, bundle.path / BILL_OF_MATERIALS)))
    assert bill_text(more) == text
    (bundle.path / MANIFEST).write_text(json.dumps(more.to_json()))
    Bundle.open(bundle.path).check()


def test_what_has_no_bill_says_so(bundle: Bundle, here: Onward) -> None:
    done = here("inspect", bundle.path / "model.onnx", "--sbom")
    assert done.returncode == 2
    assert f"expected the bundle's folder: {bundle.path}" in done.stderr
