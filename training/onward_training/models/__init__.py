"""Models: a name becomes a network that returns logits. `onward_training.model_names` lists the names.

`catalog.py` finds the network by its name. `final_activation.py` makes any of them return logits
(`--final-activation`), `output_selection.py` chooses among several returned values (`--output`).
"""

from onward_training.models.catalog import build, build_checked
from onward_training.models.final_activation import as_logits_network
from onward_training.models.output_selection import logits_of
from onward_training.models.user_code import free_parameters

__all__ = [
    "as_logits_network",
    "build",
    "build_checked",
    "free_parameters",
    "logits_of",
]
