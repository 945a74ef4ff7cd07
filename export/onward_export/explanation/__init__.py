"""Explanation: the first node of an ONNX file at which the error leaves the noise floor, and its operator of PyTorch.

In the order of reading: program_values (the values inside PyTorch's program), expected (the same in float64, and how
close float32 comes), candidate (the inner values of the file, as far as it runs), origins (operator and module of a
value), explanation (the comparison and the first wrong node).

The room does not decide whether a file passes; it says where to look when it does not.
"""

from onward_export.explanation.candidate import FailingNode, run_candidate, samples_to_explain
from onward_export.explanation.expected import Expected
from onward_export.explanation.explanation import ComparedValue, Explanation, expected_for, explain

__all__ = [
    "ComparedValue",
    "Expected",
    "Explanation",
    "FailingNode",
    "expected_for",
    "explain",
    "run_candidate",
    "samples_to_explain",
]
