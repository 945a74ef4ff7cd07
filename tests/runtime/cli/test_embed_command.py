from __future__ import annotations

import json
from pathlib import Path

from onward.bundle import Bundle


def test_it_says_what_it_weighs_and_what_comes_next(onward, shared_bundle: Bundle, tmp_path: Path) -> None:
    result = onward("embed", shared_bundle.path, "--target", "python", "--out", tmp_path / "app")
    assert result.returncode == 0, result.stderr
    for word in ("model", "golden", "python classifier.py --self-test"):
        assert word in result.stdout
    assert (tmp_path / "app" / "classifier.py").is_file()


def test_one_document_for_machines(onward, bundle: Bundle) -> None:
    """By default the app lies beside the bundle."""
    result = onward("embed", bundle.path, "--target", "node", "--title", "Digits", "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert Path(document["path"]) == bundle.path.with_name("digits-node")
    assert document["sizes_bytes"]["runtime"] == 0
    assert json.loads((Path(document["path"]) / "model.json").read_text())["title"] == "Digits"


def test_wrong_usage_is_a_sentence(onward, shared_bundle: Bundle, tmp_path: Path) -> None:
    result = onward("embed", shared_bundle.path, "--target", "rust", "--out", tmp_path / "app")
    assert result.returncode == 2
    assert "Traceback" not in result.stderr
    assert "python, node, web, triton" in result.stderr
