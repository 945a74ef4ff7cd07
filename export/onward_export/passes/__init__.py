"""Passes: each changes an ONNX graph in one way, is checked, measured, and left out where it costs precision."""

from onward_export.passes.graph_pass import GraphPass, Measure, PassResult, noise_ratio_of
from onward_export.passes.sequence import PASSES, run_passes

__all__ = ["PASSES", "GraphPass", "Measure", "PassResult", "noise_ratio_of", "run_passes"]
