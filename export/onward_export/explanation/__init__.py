"""Explanation: where in a file the error begins, and which operator of PyTorch that was."""

from onward_export.explanation.candidate import BrokenAt, run_candidate, worst_samples
from onward_export.explanation.explanation import Explanation, Point, explain

__all__ = ["BrokenAt", "Explanation", "Point", "explain", "run_candidate", "worst_samples"]
