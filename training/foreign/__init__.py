"""Foreign: weights that other programs saved, read without running anything in them and fitted to a network."""

from training.foreign.fitting import fit, start_from
from training.foreign.weights import COURSE, ForeignWeights, read_weights

__all__ = ["COURSE", "ForeignWeights", "fit", "read_weights", "start_from"]
