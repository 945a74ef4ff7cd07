"""Default weights: `--weights DEFAULT`, the file that torchvision or timm publishes for a network.

It is looked for in `$ONWARD_WEIGHTS` (a folder, or the URL of one), then where torchvision and timm keep what they have
downloaded: torch.hub's folder and the cache of timm's hub. It is downloaded only with --download.
"""

from __future__ import annotations

import os
import urllib.error
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from onward.errors import UsageError, reason_of
from onward_training.model_names import LIBRARIES

if TYPE_CHECKING:
    from onward_training.models.published_weights import KnownWeights

__all__ = ["MIRROR", "check_default", "find_default", "is_default"]

#: The value of `--weights`.
DEFAULT = "DEFAULT"
#: The environment variable with a folder of weights files, or its URL.
MIRROR = "ONWARD_WEIGHTS"
#: What timm's repositories call their file. Source: timm, `load_state_dict_from_hf`.
HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def is_default(weights: Path | None) -> bool:
    """Whether that is the value of `--weights`."""
    return weights == Path(DEFAULT)


def find_default(
    model: str, *, download: bool = False, notify: Callable[[str], None] = lambda text: None
) -> tuple[Path, str]:
    """The file of a network's default weights, and the network's name with the tag of these weights.

    Args:
        model: `torchvision:NAME`, `timm:NAME` or `timm:NAME.TAG`.
        download: Whether the file may be downloaded.
        notify: Called with the file that was taken.

    Raises:
        UsageError: The network has none, or they are not on this machine, or cannot be downloaded.
    """
    from onward_training.models.published_weights import published_of

    item = next(iter(published_of(model)), None)
    if item is None:
        raise UsageError(f"no weights are published for {model}: --weights FILE names a file.")
    places = list(_places(item))
    found = next((place for place in places if place.is_file()), None)
    if found is None and download:
        found = _download(item, notify)
    if found is None:
        source = _url(item) or f"timm's hub ({item.hub_id})"
        raise UsageError(
            f"{item.name} are not on this machine: there is no {' or '.join(map(str, places))}. --download fetches "
            f"them from {source}; or set ${MIRROR} to a folder that has the file."
        )
    notify(f"--weights DEFAULT: {item.name}, {found}")
    return found, item.model


def _places(item: KnownWeights) -> Iterator[Path]:
    """Where the file may be on this machine."""
    mirror = os.environ.get(MIRROR, "")
    if mirror and not _is_remote(mirror):
        folder = Path(unquote(urlsplit(mirror).path)) if mirror.startswith("file:") else Path(mirror)
        yield from (folder / name for name in _names(item))
    if item.file_name:
        yield _hub_folder() / item.file_name
    if item.hub_id:
        yield from _cached(item.hub_id)


def _names(item: KnownWeights) -> list[str]:
    """The names of the file in a mirror."""
    on_hub = [f"{item.hub_id}/{name}" for name in HUB_FILES] if item.hub_id else []
    return ([item.file_name] if item.file_name else []) + on_hub


def _cached(hub_id: str) -> Iterator[Path]:
    from huggingface_hub import try_to_load_from_cache  # timm requires it

    for name in HUB_FILES:
        if isinstance(found := try_to_load_from_cache(hub_id, name), str):
            yield Path(found)


def _hub_folder() -> Path:
    import torch

    return Path(torch.hub.get_dir(), "checkpoints")


def _is_remote(mirror: str) -> bool:
    return mirror.startswith(("http://", "https://"))


def _url(item: KnownWeights) -> str | None:
    mirror = os.environ.get(MIRROR, "")
    return f"{mirror.rstrip('/')}/{_names(item)[0]}" if _is_remote(mirror) else item.url


def _download(item: KnownWeights, notify: Callable[[str], None]) -> Path:
    """Download the file to where torchvision and timm look for it, and check its digest.

    Source: torch, `torch.hub.download_url_to_file`.
    """
    import torch

    url = _url(item)
    notify(f"downloading {item.name} from {url or item.hub_id}")
    try:
        if url is None:
            from huggingface_hub import hf_hub_download

            return Path(hf_hub_download(str(item.hub_id), HUB_FILES[0]))
        target = _hub_folder() / (item.file_name or _names(item)[0].replace("/", "--"))
        target.parent.mkdir(parents=True, exist_ok=True)
        torch.hub.download_url_to_file(url, str(target), item.digest, progress=False)
        return target
    except (OSError, RuntimeError, urllib.error.URLError) as error:
        raise UsageError(
            f"{item.name} could not be downloaded from {url or item.hub_id}: {reason_of(error)}. Put the file into a "
            f"folder and name it with --weights FILE, or the folder with ${MIRROR}."
        ) from error


def check_default(model: str | None) -> None:
    """Check that a network may have default weights, without importing its library.

    Raises:
        UsageError: It is none of torchvision's or timm's.
    """
    if model is None or model.partition(":")[0] not in LIBRARIES:
        raise UsageError(
            f"--weights DEFAULT is for torchvision:NAME and timm:NAME, and the network is {model}: name a file."
        )
