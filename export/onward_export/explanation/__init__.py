"""Explanation: where in a file the error begins, and which operator of PyTorch that was."""

from onward_export.explanation.candidate import BrokenAt, run_candidate
from onward_export.explanation.explanation import Explanation, Point, explain
from onward_export.explanation.samples import worst_samples

__all__ = ["BrokenAt", "Explanation", "Point", "explain", "run_candidate", "worst_samples"]
