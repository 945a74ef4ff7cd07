"""Explanation: where in a file the error begins, and which operator of PyTorch that was."""

from onward_export.explanation.candidate import FailingNode, run_candidate, samples_to_explain
from onward_export.explanation.explanation import ComparedValue, Explanation, explain

__all__ = ["ComparedValue", "Explanation", "FailingNode", "explain", "run_candidate", "samples_to_explain"]
