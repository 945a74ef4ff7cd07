"""Models: a name becomes a network that returns logits. `--model` names one:

    classifier, cnn                           architectures.py
    neuron, two-layers, perceptron,
    perceptron-module, sequential, network    course.py          the networks of the PyTorch course
    torchvision:NAME, timm:NAME               libraries.py
    FILE.py:NAME, package.module:NAME         user_code.py

`catalog.py` finds the network by its name. `final_activation.py` makes any of them return logits
(`--final-activation`), `output_selection.py` chooses among several returned values (`--output`).
"""

from onward_training.models.catalog import ARCHITECTURES, build, build_checked, is_user_code
from onward_training.models.final_activation import FINAL_ACTIVATIONS, as_logits_network
from onward_training.models.output_selection import logits_of
from onward_training.models.user_code import free_parameters

__all__ = [
    "ARCHITECTURES",
    "FINAL_ACTIVATIONS",
    "as_logits_network",
    "build",
    "build_checked",
    "free_parameters",
    "is_user_code",
    "logits_of",
]
