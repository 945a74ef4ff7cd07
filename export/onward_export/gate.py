"""Gate: opens each artifact from the file that ships, in a fresh process, compares it with the reference and says
whether it passes.

Rules 3, 4, 5 and 7 of docs/parity.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from torch.export import ExportedProgram

from onward.bundle.golden import GoldenRecord
from onward.errors import ParityFailure
from onward.parity import CONSTANT, MAX_NOISE_RATIO, MAX_RELATIVE_ERROR, Outputs, Replay, Verdict
from onward.signature import AnySignature
from onward.tasks import task_of
from onward_export.explanation import Explanation, explain, samples_to_explain
from onward_export.formats.onnx_file import OnnxExport, opset_of
from onward_export.opening import ArtifactProcess, Replays, files_beside, open_artifact
from onward_export.options import MAX_PROTOBUF_BYTES
from onward_export.passes import PassResult
from onward_export.weights.account import WeightCheck, check_onnx, check_pt2, check_torchscript

__all__ = ["GateResult", "ParityReference", "check_artifact", "refusal"]


@dataclass(frozen=True)
class ParityReference:
    """What artifacts are compared with.

    Args:
        signature: The inputs and outputs.
        record: Samples, reference and noise.
        golden: The part of the record that is stored in the bundle.
        expected: The state_dict of the module that was exported.
        buffers: All of its buffers, those that are not persistent included.
        program: Its exported program; None where TorchScript is the only format.
        written: The passes over the ONNX graph and the program that it was translated from; None without ONNX.
    """

    signature: AnySignature
    record: GoldenRecord
    golden: GoldenRecord
    expected: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    program: ExportedProgram | None
    written: OnnxExport | None

    def passes(self, format: str) -> tuple[PassResult, ...]:
        """The results of the passes over an artifact's graph; none except for ONNX."""
        return self.written.passes if self.written is not None and format == "onnx" else ()


@dataclass(frozen=True)
class GateResult:
    """The result of the gate for one artifact.

    Args:
        artifact: Its format, which is also its name here.
        verdict: The comparison of its outputs with the reference.
        weights: The comparison of its stored values with the checkpoint.
        outputs: Its outputs for the golden inputs: kind -> output -> float32.
        replayed: Its outputs for all samples, once for each batch size. The report is drawn from them; they are not
            stored in the bundle.
        file: The name of the file that was opened.
        size_bytes: The size of that file and of the weights beside it.
        opset: The opset of an ONNX file, else None.
        requires: Libraries that register some of its operators: without them it does not open.
        passes: The results of the passes over its graph; none except for ONNX.
        explanation: The error along its graph, if the user asked for it or the artifact failed; ONNX only.
    """

    artifact: str
    verdict: Verdict
    weights: WeightCheck
    outputs: Mapping[str, Outputs]
    replayed: Replay
    file: str
    size_bytes: int
    opset: int | None = None
    requires: tuple[str, ...] = ()
    passes: tuple[PassResult, ...] = ()
    explanation: Explanation | None = None

    @property
    def passed(self) -> bool:
        """Whether outputs and weights passed."""
        return self.verdict.passed and self.weights.passed

    def reasons(self) -> list[str]:
        """Why it failed, one sentence each."""
        sentences = [f"{self.artifact}: {tensor}." for tensor in self.weights.unexplained]
        for row in self.verdict.comparisons:
            if row.passed:
                continue
            if row.kind == CONSTANT:
                sentences.append(
                    f"{self.artifact}: the error of {row.output} on constant samples is {row.error:.1e}, "
                    f"{row.error / row.noise.scale:.1e} of its scale; at most {MAX_RELATIVE_ERROR:.0e} passes."
                )
            else:
                sentences.append(
                    f"{self.artifact}: the error of {row.output} on {row.kind} samples is {row.error:.1e}, "
                    f"{row.noise_ratio:,.1f} times PyTorch's own ({row.noise.floor:.1e}); at most "
                    f"{MAX_NOISE_RATIO:g} passes."
                )
        if self.explanation is not None and not self.passed:
            sentences.append(self.explanation.sentence())
            if self.explanation.first is None and self.explanation.broken is None:
                sentences.append("The error comes from those optimisations, or from the batch size.")
        return sentences

    def to_json(self) -> dict[str, Any]:
        """The verdict with its comparisons, the weights, the passes and the explanation, if there are any."""
        passes: dict[str, Any] = {"passes": [item.to_json() for item in self.passes]} if self.passes else {}
        if self.explanation is not None:
            passes |= {"explanation": self.explanation.to_json()}
        return self.verdict.to_json() | {"passed": self.passed, "weights": self.weights.to_json()} | passes


def check_artifact(
    path: Path,
    format: str,
    reference: ParityReference,
    replays: Replays,
    *,
    always_explain: bool = False,
    weights: WeightCheck | None = None,
) -> GateResult:
    """Compare a file that is about to ship with the reference. The weights are compared while it runs.

    Args:
        path: The file.
        format: `onnx`, `torchscript` or `pt2`.
        reference: What it is compared with.
        replays: Has begun to run it.
        always_explain: Whether the error along the graph of an ONNX file is measured even if the file passes.
        weights: The comparison of its stored values, if it was made already.

    Raises:
        ParityFailure: The file does not open, or does not run at some batch size. For an ONNX file the node is named.
    """
    process = replays.process
    try:
        try:
            weights = weights or _check_weights(path, format, reference, process)
        except Exception:
            replays.result(format)  # a file that does not open has weights that cannot be read, either
            raise
        run = replays.result(format)
    except ParityFailure as error:
        raise ParityFailure(f"{error}{_where(path, format, reference, process)}") from error
    verdict = reference.record.judge_replay(format, run.replayed, task_of(reference.signature))
    explanation = None
    if (
        format == "onnx"
        and reference.written is not None
        and _is_small(path)
        and (always_explain or not verdict.passed)
    ):
        with process.lock:
            opened = open_artifact(format, path, reference.signature, process)
            samples = samples_to_explain(reference.record, opened.run)
        explanation = explain(path, reference.written.program, samples, process.run_as_written)
    return GateResult(
        artifact=format,
        verdict=verdict,
        weights=weights,
        outputs=run.golden,
        replayed=run.replayed,
        file=path.name,
        size_bytes=sum(file.stat().st_size for file in (path, *files_beside(path))),
        opset=opset_of(path) if format == "onnx" else None,
        requires=run.requires,
        passes=reference.passes(format),
        explanation=explanation,
    )


def _is_small(path: Path) -> bool:
    """Whether inner values can be made outputs: the graph with its weights must fit into one protobuf."""
    return sum(file.stat().st_size for file in (path, *files_beside(path))) <= MAX_PROTOBUF_BYTES


def _where(path: Path, format: str, reference: ParityReference, process: ArtifactProcess) -> str:
    """A sentence that names the node at which an ONNX file does not open or run; empty for other formats."""
    if format != "onnx" or reference.written is None or not _is_small(path):
        return ""
    samples = samples_to_explain(reference.record)
    return f" {explain(path, reference.written.program, samples, process.run_as_written).sentence()}"


def refusal(results: Sequence[GateResult], page: Path) -> ParityFailure:
    """The error that stops the export, with every reason and the page that shows them."""
    reasons = [reason for result in results for reason in result.reasons()]
    return ParityFailure(f"the gate is closed, nothing was published. {' '.join(reasons)} See {page}.")


def _check_weights(path: Path, format: str, reference: ParityReference, process: ArtifactProcess) -> WeightCheck:
    match format:
        case "onnx":
            assert reference.program is not None
            decomposed = reference.written.program if reference.written is not None else None
            feed = next(iter(reference.record.inputs.values())) if _is_small(path) else None
            return check_onnx(path, reference.expected, reference.program, decomposed, feed, process.run_as_written)
        case "torchscript":
            return check_torchscript(path, {**reference.expected, **reference.buffers})
        case _:
            assert reference.program is not None
            return check_pt2(path, reference.expected, reference.program.constants)
