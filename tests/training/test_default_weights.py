"""`--weights DEFAULT`: a mirror, the caches of torchvision and timm, and a download that is asked for."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from onward.errors import UsageError
from onward.preprocess import Preprocess
from onward_training.default_weights import MIRROR, check_default, find_default
from onward_training.models import published_weights
from onward_training.models.published_weights import KnownWeights
from onward_training.preprocessing import StatedPreprocessing

CONTENT = b"weights"
DIGEST = hashlib.sha256(CONTENT).hexdigest()[:8]
FILE = f"net-{DIGEST}.pth"


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches; their folder."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.delenv(MIRROR, raising=False)
    return tmp_path


def publish(monkeypatch: pytest.MonkeyPatch, url: str | None, hub_id: str | None = None) -> None:
    images = StatedPreprocessing((8, 8), 3, Preprocess(), (0.5,) * 3, (0.5,) * 3, "ignore")
    item = KnownWeights("the weights", "timm:net.tag", lambda: images, lambda: ("a", "b"), 2, url, hub_id)
    monkeypatch.setattr(published_weights, "published_of", lambda model: [item])


def write(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_a_mirror_comes_before_the_caches(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, f"https://example.invalid/{FILE}", "timm/net.tag")
    with pytest.raises(UsageError, match=f"there is no .*{FILE}. --download fetches them from https://example.invalid"):
        find_default("timm:net")
    in_cache = write(caches / "torch" / "hub" / "checkpoints" / FILE)
    said: list[str] = []
    assert find_default("timm:net", notify=said.append) == (in_cache, "timm:net.tag")
    assert said == [f"--weights DEFAULT: the weights, {in_cache}"]
    mirror = caches / "a mirror"
    on_hub = write(mirror / "timm" / "net.tag" / "model.safetensors")
    for value in (str(mirror), mirror.as_uri()):
        monkeypatch.setenv(MIRROR, value)
        assert find_default("timm:net")[0] == on_hub
    by_name = write(mirror / FILE)
    assert find_default("timm:net")[0] == by_name


def test_the_cache_of_timms_hub_is_read(caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("huggingface_hub")
    publish(monkeypatch, None, "timm/net.tag")
    repository = caches / "hub" / "models--timm--net.tag"
    write(repository / "refs" / "main", b"abc")
    file = write(repository / "snapshots" / "abc" / "model.safetensors")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(caches / "hub"))  # read at import
    assert find_default("timm:net")[0] == file


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """The URL of a server of the folder `served`."""
    (tmp_path / "served").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    handler.log_message = lambda *arguments: None  # type: ignore[attr-defined]
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http:
        thread = threading.Thread(target=http.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join()


def test_a_file_is_downloaded_if_that_is_said_and_its_digest_checked(
    server: str, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(monkeypatch, f"{server}/{FILE}")
    write(caches / "served" / FILE, b"other content")
    target = caches / "torch" / "hub" / "checkpoints" / FILE
    with pytest.raises(UsageError, match="--download fetches them from http://127"):
        find_default("timm:net")
    with pytest.raises(UsageError, match=r"could not be downloaded .* name it with --weights FILE"):
        find_default("timm:net", download=True)
    assert not target.exists()
    write(caches / "served" / FILE)
    assert find_default("timm:net", download=True) == (target, "timm:net.tag")
    assert target.read_bytes() == CONTENT


def test_a_mirror_may_be_a_server(server: str, caches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, f"https://example.invalid/{FILE}")
    write(caches / "served" / FILE)
    monkeypatch.setenv(MIRROR, f"{server}/")
    with pytest.raises(UsageError, match=f"--download fetches them from {server}/{FILE}"):
        find_default("timm:net")
    assert find_default("timm:net", download=True)[0].read_bytes() == CONTENT


@pytest.mark.parametrize("model", [None, "cnn", "net.py:Network"])
def test_other_networks_have_no_default_weights(model: str | None) -> None:
    with pytest.raises(UsageError, match="DEFAULT is for torchvision:NAME and timm:NAME"):
        check_default(model)
