"""External weights: files that other programs saved are read without running code, and loaded into a network.

safe_loading.py      opens a file with PyTorch's safe reader, or as safetensors
stand_ins.py         what takes the place of classes and functions that it names, so that no code is run
entries.py           the places in its content that hold weights, and which of them is taken
stated_arguments.py  values in its content that are arguments of the network's class
weights.py           the weights: ExternalWeights
key_matching.py      which weight of the file belongs to which of the network
load_state_dict.py   loads them into a network, or reports each key that does not fit
texts.py             what the messages share
"""

from onward_training.external.load_state_dict import initialise_from, load_state_dict
from onward_training.external.stated_arguments import arguments_for
from onward_training.external.weights import COURSE_ENTRIES, ExternalWeights, read_weights, weights_entries

__all__ = [
    "COURSE_ENTRIES",
    "ExternalWeights",
    "arguments_for",
    "initialise_from",
    "load_state_dict",
    "read_weights",
    "weights_entries",
]
