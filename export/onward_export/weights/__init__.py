"""Weights: every stored value of an artifact, accounted for."""
