"""Models: everything that `--model` may name becomes a network that gives logits."""

from onward_training.models.catalog import ARCHITECTURES, build, build_to_fit, is_own_code
from onward_training.models.final_activation import ENDS, logits_of, with_logits

__all__ = ["ARCHITECTURES", "ENDS", "build", "build_to_fit", "is_own_code", "logits_of", "with_logits"]
