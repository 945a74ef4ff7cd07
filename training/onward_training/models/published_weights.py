"""Published weights: the files that torchvision and timm publish, and what the libraries say of them.

Which weights a file holds is told by its name, or by its content: most names end in the first digits of their SHA-256.
timm's files on a hub all have one name: there, `config.json` beside the file or the tag in `timm:resnet50.a1_in1k`
tells it.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from onward.bundle.bundle import digest_file
from onward.document import parse
from onward.errors import CheckpointError, UsageError, some_of
from onward.preprocess import INTERPOLATIONS, Preprocess
from onward_training.model_names import LIBRARIES
from onward_training.models.libraries import NEEDS_INIT_WEIGHTS, check_network
from onward_training.preprocessing import StatedPreprocessing

__all__ = ["KnownWeights", "find_published", "published_of"]

#: The beginning of a file's SHA-256 in its name. Source: torch, `torch.hub.HASH_REGEX`.
DIGEST = re.compile(r"-([a-f0-9]{8,64})\.")
MAX_TAGS_SHOWN = 12


@dataclass(frozen=True)
class KnownWeights:
    """Weights whose images and classes are known: a library publishes them, or their file says it.

    Args:
        name: Of published weights, as people call them: `torchvision's IMAGENET1K_V1 of resnet18`; else empty.
        model: The network's name for `--model`: `torchvision:resnet18`, `timm:resnet18.a1_in1k`.
        preprocessing: Finds how images become their input; without a resize rule if no signature can say it.
        labels: Finds the names of their classes; a UsageError says why there are none.
        num_classes: Their number.
        url: Of the file; None if they are on a hub only.
        hub_id: Their repository on the hub of timm's weights; None if there is none.
        arguments: Of the network, that belong to these weights.
        is_certain: Whether a file was found to hold them by its name or content. The file may hold others, trained on
            from these, if only the network's tag or `config.json` says so.
    """

    name: str
    model: str
    preprocessing: Callable[[], StatedPreprocessing]
    labels: Callable[[], tuple[str, ...]]
    num_classes: int
    url: str | None = None
    hub_id: str | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    is_certain: bool = False

    @property
    def file_name(self) -> str | None:
        """The name of the file at the URL."""
        return self.url.rpartition("/")[2] if self.url else None

    @property
    def digest(self) -> str | None:
        """The beginning of the file's SHA-256."""
        found = DIGEST.search(self.file_name or "")
        return found[1] if found else None


def published_of(model: str) -> list[KnownWeights]:
    """The weights that a library publishes for a network, the default ones first.

    Args:
        model: `torchvision:NAME`, `timm:NAME` or `timm:NAME.TAG`, which has one. Any other network has none.

    Raises:
        UsageError: The library has no such network.
    """
    library, _, name = model.partition(":")
    if library not in LIBRARIES:
        return []
    check_network(library, name)
    return _of_torchvision(name) if library == "torchvision" else _of_timm(name)


def find_published(model: str, path: Path, notify: Callable[[str], None] = lambda text: None) -> KnownWeights | None:
    """The published weights of a network that a file holds; None if it may hold others.

    Args:
        model: The network's name.
        path: The file.
        notify: Called if the file has the name of published weights, and other content.
    """
    candidates = published_of(model)
    if not candidates:
        return None
    digest = digest_file(path.parent, path).sha256
    by_content = next((item for item in candidates if item.digest and digest.startswith(item.digest)), None)
    by_name = next((item for item in candidates if item.file_name == path.name), None)
    if by_name is not None and by_content is None and by_name.digest:
        notify(f"{path.name} has the name of {by_name.name}, but not its content: its SHA-256 begins with {digest[:8]}")
    if certain := by_content or by_name:
        return replace(certain, is_certain=True)
    return _beside(model, path) or (candidates[0] if _has_tag(model) else None)


def _has_tag(model: str) -> bool:
    library, _, name = model.partition(":")
    return library == "timm" and "." in name


def _of_torchvision(name: str) -> list[KnownWeights]:
    """Source: torchvision, `torchvision.models.get_model_weights`."""
    from torchvision import models

    weights = models.get_model_weights(name)
    # these two were trained on pixels in Inception's scale; their builders convert to it only if they load weights
    arguments = {"transform_input": True} if name in NEEDS_INIT_WEIGHTS else {}
    return [
        KnownWeights(
            f"torchvision's {entry.name} of {name}",
            f"torchvision:{name}",
            partial(_preprocessing_of_torchvision, entry),
            partial(_labels_of_torchvision, entry, name),
            len(entry.meta["categories"] or ()),
            entry.url,
            arguments=arguments,
        )
        for entry in sorted(weights, key=lambda entry: entry is not weights.DEFAULT)
    ]


def _preprocessing_of_torchvision(entry: Any) -> StatedPreprocessing:
    """Source: torchvision, `ImageClassification`."""
    transform = entry.transforms()
    (side,), (shorter,) = transform.crop_size, transform.resize_size
    rule = Preprocess("shorter-side", shorter, transform.interpolation.value)
    return StatedPreprocessing((side, side), 3, rule, tuple(transform.mean), tuple(transform.std), "ignore")


def _labels_of_torchvision(entry: Any, name: str) -> tuple[str, ...]:
    """Source: torchvision, `WeightsEnum.meta`."""
    if entry.meta["categories"] is None:
        raise UsageError(
            f"torchvision's {entry.name} of {name} have no class names: they are not a classifier's weights."
        )
    return tuple(entry.meta["categories"])


def _of_timm(name: str) -> list[KnownWeights]:
    """Source: timm, `get_arch_pretrained_cfgs`, `get_pretrained_cfg`."""
    timm_models: Any = import_module("timm.models")
    architecture, _, tag = name.partition(".")
    found = {key: value for key, value in timm_models.get_arch_pretrained_cfgs(architecture).items() if value.tag}
    if tag and name not in found:
        raise UsageError(
            f"timm has no weights {name!r}; it has {some_of(list(found), MAX_TAGS_SHOWN) or f'none of {architecture}'}."
        )
    default = timm_models.get_pretrained_cfg(architecture)
    names = [name] if tag else sorted(found, key=lambda key: default is None or found[key].tag != default.tag)
    return [_of_pretrained_cfg(found[key].to_dict()) for key in names if found[key].has_weights]


def _beside(model: str, path: Path) -> KnownWeights | None:
    """What `config.json` beside a file of timm's says, if it is about this network.

    Source: timm, `save_for_hf`.
    """
    library, _, name = model.partition(":")
    beside = path.with_name("config.json")
    if library != "timm" or not beside.is_file():
        return None
    document = parse(beside.read_bytes(), str(beside), CheckpointError)
    architecture, config = document.get("architecture"), document.get("pretrained_cfg")
    if architecture is None or config is None or architecture.read(str) != name.partition(".")[0]:
        return None
    own = {key: found.value for key in ("num_classes", "label_names") if (found := document.get(key)) is not None}
    read = {"num_classes": 1000} | config.read(dict[str, Any]) | own
    return _of_pretrained_cfg(read | {"architecture": architecture.value})


def _of_pretrained_cfg(config: Mapping[str, Any]) -> KnownWeights:
    name = ".".join(str(part) for part in (config["architecture"], config.get("tag")) if part)
    return KnownWeights(
        f"timm's {name}",
        f"timm:{name}",
        partial(_preprocessing_of_timm, config),
        partial(_labels_of_timm, config, name),
        config["num_classes"],
        config.get("url") or None,
        config.get("hf_hub_id") or None,
    )


def _preprocessing_of_timm(config: Mapping[str, Any]) -> StatedPreprocessing:
    """Source: timm, `resolve_data_config`, `transforms_imagenet_eval`."""
    timm_data: Any = import_module("timm.data")
    found = timm_data.resolve_data_config(pretrained_cfg=dict(config))
    channels, height, width = found["input_size"]
    share, mode, interpolation = found["crop_pct"], found["crop_mode"], found["interpolation"]
    rule = None
    if interpolation in INTERPOLATIONS and mode == "squash" and share == 1:
        rule = Preprocess("stretch", None, interpolation)
    elif interpolation in INTERPOLATIONS and mode == "center" and height == width:
        rule = Preprocess("shorter-side", math.floor(height / share), interpolation)
    return StatedPreprocessing((height, width), channels, rule, tuple(found["mean"]), tuple(found["std"]), "ignore")


def _labels_of_timm(config: Mapping[str, Any], name: str) -> tuple[str, ...]:
    """The names in the configuration, or those of ImageNet; a name that two classes share gets its WordNet number."""
    timm_data: Any = import_module("timm.data")
    if config.get("label_names"):
        return tuple(config["label_names"])
    subset = timm_data.infer_imagenet_subset(dict(config))
    if subset is None:
        raise UsageError(f"timm does not name the {config['num_classes']} classes of {name}: --labels names them.")
    info = timm_data.ImageNetInfo(subset)
    names = [info.index_to_description(index).partition(",")[0] for index in range(info.num_classes())]
    counts = Counter(names)
    return tuple(
        name if counts[name] == 1 else f"{name} ({info.index_to_label_name(index)})" for index, name in enumerate(names)
    )
