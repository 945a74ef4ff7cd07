"""Reference: what artifacts are compared with. The module runs in float64, and its float32 error is the noise floor.

In the order of reading: samples (the inputs), operator_trace (which operator of which module computed what), widening
(every float of a run in a wider type), preconditions (what must hold of the module), reference (the float64 outputs and
the noise floor).

The room knows the module, not the artifacts.
"""

from onward_export.reference.reference import Reference, make_reference, why_stop

__all__ = ["Reference", "make_reference", "why_stop"]
