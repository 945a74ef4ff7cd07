"""Passes: each changes an ONNX graph in one way, before the graph becomes a file.

A pass finds the places where its precondition holds and changes them. Then its postcondition is checked, the noise
ratio is measured, and an optional pass that costs precision is left out.

In the order of reading: graph_pass (the interface of a pass), layer_weights (what the weights of a layer become in each
fold), linear_layer (a layer in an ONNX graph), then the passes in the order in which they run: simplification,
batch_norm, normalization, dead_code, pixel_layout; and sequence, which runs and measures them.

The passes do not know PyTorch or the checkpoint. Whether the folded weights are right is checked in
`onward_export.weights`, on the file.
"""

from onward_export.passes.graph_pass import GraphPass, PassResult, fits_into_one_file, weights_bytes
from onward_export.passes.sequence import PASSES, Measure, noise_ratio_of, run_passes

__all__ = [
    "PASSES",
    "GraphPass",
    "Measure",
    "PassResult",
    "fits_into_one_file",
    "noise_ratio_of",
    "run_passes",
    "weights_bytes",
]
