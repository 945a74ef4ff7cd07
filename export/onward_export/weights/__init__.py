"""Weights: says where every stored value of an artifact comes from, and fails the artifact if it cannot.

In the order of reading: account (the comparison with the checkpoint and its result), known_values (what a file may
store: the checkpoint's values, and those that are computed from them), constant_folding (values that the program
computes from weights alone), layer_folding (weights and biases with batch norm, normalisation or pixel layout folded
into them), folded_value (how far such a value may be from the stored one), probe (what is none of these, run beside
PyTorch's program).

The room reads the file that ships, the checkpoint and PyTorch's exported program. It does not know which passes ran
on the ONNX graph. It shares one thing with them: `onward_export.passes.layer_weights`, the formulas of the folds.
"""

from onward_export.weights.account import StoredValue, WeightCheck, check_onnx, check_pt2, check_torchscript
from onward_export.weights.known_values import KnownValues

__all__ = ["KnownValues", "StoredValue", "WeightCheck", "check_onnx", "check_pt2", "check_torchscript"]
