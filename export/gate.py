"""Gate: opens each artifact anew from the file that ships and says whether it may.

Rules 3, 4, 5 and 7 of docs/parity.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.export import ExportedProgram

from export.formats.onnx_file import opset_of
from export.weights import WeightCheck, check_onnx, check_pt2, check_torchscript
from runtime.backends import open_backend
from runtime.backends.session import ORT_ERRORS
from runtime.errors import OnwardError, ParityFailure, reason_of
from runtime.golden import GoldenRecord
from runtime.parity import MAX_NOISE_RATIO, Outputs, Replay, Verdict, replay
from runtime.signature import Signature

__all__ = ["Examination", "examine", "refusal"]

#: What onnxruntime and PyTorch raise while they run a model that does not take a batch.
BACKEND_ERRORS: tuple[type[Exception], ...] = (*ORT_ERRORS, RuntimeError, ValueError, TypeError)


@dataclass(frozen=True)
class Examination:
    """One artifact before the gate.

    Args:
        artifact: Its format, which is its name here.
        verdict: Outputs against the reference.
        weights: Stored values against the checkpoint.
        outputs: What it gives for the golden inputs: kind -> output -> float32.
        replayed: What it gives for all samples, once for each batch size: what the report draws from. It stays on
            the machine that builds.
        file: The name of the file that was opened.
        size_bytes: Of that file.
        opset: Of ONNX, else None.
    """

    artifact: str
    verdict: Verdict
    weights: WeightCheck
    outputs: Mapping[str, Outputs]
    replayed: Replay
    file: str
    size_bytes: int
    opset: int | None = None

    @property
    def passed(self) -> bool:
        """Whether it may ship."""
        return self.verdict.passed and self.weights.passed

    def reasons(self) -> list[str]:
        """Why it may not, a sentence each."""
        sentences = [f"{self.artifact}: {stranger}." for stranger in self.weights.strangers]
        for row in self.verdict.comparisons:
            if not row.passed:
                sentences.append(
                    f"{self.artifact}: the error of {row.output} on {row.kind} images is {row.error:.1e}, "
                    f"{row.noise_ratio:,.1f} times PyTorch's own ({row.noise.floor:.1e}); at most "
                    f"{MAX_NOISE_RATIO:g} passes."
                )
        return sentences

    def to_json(self) -> dict[str, Any]:
        """The verdict, its rows and the weights."""
        return self.verdict.to_json() | {"passed": self.passed, "weights": self.weights.to_json()}


def examine(
    path: Path,
    format: str,
    *,
    signature: Signature,
    record: GoldenRecord,
    golden: GoldenRecord,
    expected: Mapping[str, Tensor],
    program: ExportedProgram,
) -> Examination:
    """Open a file that is about to ship and measure it.

    Args:
        path: The file.
        format: `onnx`, `torchscript` or `pt2`.
        signature: What it takes and gives.
        record: Samples, reference and noise.
        golden: The part of it that will travel.
        expected: The state_dict of the module that was exported.
        program: Its exported program.

    Raises:
        ParityFailure: The file does not open, or does not run on a batch of some size.
    """
    try:
        backend = open_backend(format, path.read_bytes(), signature)
        replayed = replay(backend.run, record.inputs)
        outputs = {kind: backend.run(images) for kind, images in golden.inputs.items()}
    except OnwardError as error:
        raise ParityFailure(f"{path.name} does not open: {error}") from error
    except BACKEND_ERRORS as error:
        raise ParityFailure(f"{path.name} does not run on batches of every size: {reason_of(error)}") from error
    return Examination(
        artifact=format,
        verdict=record.judge_replay(format, replayed),
        weights=_check_weights(path, format, expected, program),
        outputs=outputs,
        replayed=replayed,
        file=path.name,
        size_bytes=path.stat().st_size,
        opset=opset_of(path) if format == "onnx" else None,
    )


def refusal(examinations: Sequence[Examination], page: Path) -> ParityFailure:
    """The error that closes the gate, with every reason and the page that shows them."""
    reasons = [reason for examination in examinations for reason in examination.reasons()]
    return ParityFailure(f"the gate is closed, nothing was published. {' '.join(reasons)} See {page}.")


def _check_weights(path: Path, format: str, expected: Mapping[str, Tensor], program: ExportedProgram) -> WeightCheck:
    match format:
        case "onnx":
            return check_onnx(path, expected, program)
        case "torchscript":
            return check_torchscript(path, expected)
        case _:
            return check_pt2(path, expected)
