"""Foreign: weights that other programs saved, read without running anything in them and fitted to a network."""

from onward_training.external.load_state_dict import fit, start_from
from onward_training.external.weights import COURSE, ForeignWeights, read_weights

__all__ = ["COURSE", "ForeignWeights", "fit", "read_weights", "start_from"]
