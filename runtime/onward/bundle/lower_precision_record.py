"""The golden record of an artifact of lower precision: what it must give, and its quantisation error."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onward.bundle.artifact import Artifact
from onward.bundle.bundle import SIMULATION, Bundle
from onward.bundle.golden import GoldenRecord
from onward.errors import BundleError
from onward.lower_precision import quantization_errors
from onward.parity import Outputs

__all__ = ["LowerPrecisionRecord"]


@dataclass(frozen=True)
class LowerPrecisionRecord:
    """What a bundle holds to judge one of its artifacts by.

    Args:
        golden: Inputs, reference and noise.
        recorded: Kind -> output -> what the artifact gave on the building machine.
        simulation: Kind -> output -> what its graph gives in float64.
        errors: Kind -> output -> the quantisation error.
    """

    golden: GoldenRecord
    recorded: Mapping[str, Outputs]
    simulation: Mapping[str, Outputs]
    errors: Mapping[str, Mapping[str, float]]

    @classmethod
    def read(cls, bundle: Bundle, artifact: Artifact) -> LowerPrecisionRecord:
        """Read it from a bundle.

        Raises:
            BundleError: A file is missing or changed, or does not fit the golden record or the signature.
        """
        golden = bundle.golden()
        recorded, simulation = bundle.golden_outputs(artifact.name), bundle.golden_simulation(artifact.name)
        for name, outputs in ((artifact.name, recorded), (f"{artifact.name}{SIMULATION}", simulation)):
            golden.check_outputs(name, outputs, bundle.signature)
            if missing := [kind for kind in golden.inputs if kind not in outputs]:
                raise BundleError(f"golden/{name}.npz has no {missing[0]!r} samples, expected those of golden.npz.")
        return cls(golden, recorded, simulation, quantization_errors(simulation, golden.reference, golden.noise))
