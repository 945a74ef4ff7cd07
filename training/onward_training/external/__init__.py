"""External weights: files that other programs saved are read without running code, and loaded into a network.

safe_loading.py     opens a file with PyTorch's safe reader, or as safetensors
weights.py          finds the weights in its content: ExternalWeights
load_state_dict.py  loads them into a network, or reports each key that does not fit
"""

from onward_training.external.load_state_dict import initialise_from, load_state_dict
from onward_training.external.weights import COURSE_ENTRIES, ExternalWeights, read_weights

__all__ = ["COURSE_ENTRIES", "ExternalWeights", "initialise_from", "load_state_dict", "read_weights"]
