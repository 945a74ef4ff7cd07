"""Models: everything that `--model` may name becomes a network that gives logits."""

from onward_training.models.catalog import ARCHITECTURES, build, build_checked, is_user_code
from onward_training.models.final_activation import FINAL_ACTIVATIONS, as_logits_network
from onward_training.models.output_selection import logits_of

__all__ = [
    "ARCHITECTURES",
    "FINAL_ACTIVATIONS",
    "as_logits_network",
    "build",
    "build_checked",
    "is_user_code",
    "logits_of",
]
