"""Target: where an app is to run, and which templates make it."""

from __future__ import annotations

from dataclasses import dataclass

from onward.errors import UsageError

__all__ = ["TARGETS", "Target", "find"]


@dataclass(frozen=True)
class Target:
    """A kind of app.

    Args:
        name: What `--target` says.
        templates: Folders of templates/, copied one after the other.
        next_steps: Commands, run inside the app's folder, that show it at work.
        takes_tensors: Whether it serves models that take no images, too.
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
    """The target of that name.

    Raises:
        UsageError: There is none.
    """
    if name not in TARGETS:
        raise UsageError(f"there is no target {name!r}; expected one of {', '.join(TARGETS)}.")
    return TARGETS[name]
