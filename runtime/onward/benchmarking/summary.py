"""Summary: turns the measurements of all candidates into rows."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import numpy as np

from onward.benchmarking.candidate import Candidate, shortest_paths
from onward.benchmarking.instability import find_instabilities, find_leaks
from onward.benchmarking.matrix import install_hint
from onward.benchmarking.measurements import STAGES, Measurements, ProcessRun, Recording
from onward.benchmarking.model import ModelUnderTest
from onward.benchmarking.row import IMPRECISE, MEASURED, Latency, Row, Stages
from onward.benchmarking.sample import Sample
from onward.errors import UsageError
from onward.lower_precision import MAX_DEVIATION_RATIO
from onward.parity import MAX_NOISE_RATIO
from onward.statistics import Interval, p10, pair_rounds, ratio_interval

__all__ = ["choose_reference", "summarise"]

#: The backend that is the reference by default.
REFERENCE = "torch"

Rounds = list[list[float]]


def choose_reference(candidates: Sequence[Candidate], requested: str | None = None) -> Candidate:
    """The candidate that ratios are relative to: by default PyTorch for the first target, else the first candidate.

    Args:
        candidates: In order.
        requested: A backend, a target, or `TARGET:BACKEND`; a target in full, or as tables name it.

    Raises:
        UsageError: No candidate is the requested one.
    """
    short = shortest_paths({candidate.target for candidate in candidates})
    for candidate in candidates:
        if requested is None and candidate.backend == REFERENCE:
            return candidate
        names = (candidate.target, short[candidate.target])
        if requested in (candidate.backend, *names, *(f"{name}:{candidate.backend}" for name in names)):
            return candidate
    if requested is not None:
        backends = ", ".join(dict.fromkeys(candidate.backend for candidate in candidates))
        raise UsageError(f"--reference {requested!r} is not part of this benchmark, which has {backends}.")
    return candidates[0]


def summarise(measurements: Measurements, models: Mapping[str, ModelUnderTest], reference: Candidate) -> list[Row]:
    """A row for each batch size and candidate, from the smallest batch size up; then those without a sample."""
    recordings = measurements.recordings
    batch_sizes = sorted({size for item in recordings for run in item.process_runs for size in run.first_ms})
    timed = [
        _row(item, batch_size, measurements, models[item.candidate.target], reference)
        for batch_size in batch_sizes
        for item in recordings
        if item.samples(batch_size)
    ]
    untimed = [item for item in recordings if item.failure or not any(map(item.samples, batch_sizes))]
    return timed + [_untimed_row(item) for item in untimed]


def _untimed_row(recording: Recording) -> Row:
    if not recording.failure:
        status, reason = "skipped", "skipped: the benchmark was interrupted before its first sample."
    else:
        status, reason = "missing" if install_hint(recording.candidate.backend) else "failed", recording.failure
    return Row(recording.candidate, 0, status, reason, recording.name, recording.placement)


def _row(
    recording: Recording, batch_size: int, measurements: Measurements, model: ModelUnderTest, reference: Candidate
) -> Row:
    samples = recording.samples(batch_size)
    every = [sample for some in samples for sample in some]
    rounds = _p10_rounds(recording, batch_size)
    status, reason = _status(every, model, recording.candidate)
    distance, is_float32 = max(sample.distance for sample in every), recording.candidate.is_float32
    reference_recording = next(item for item in measurements.recordings if item.candidate == reference)
    is_comparable = status != "wrong" and not _is_wrong(reference_recording, batch_size)
    ratio = _ratio(reference_recording, rounds, batch_size) if is_comparable else None
    latency = Latency.of(np.concatenate([sample.latencies_ms for sample in every]))
    warm_ups = [run.warm_ups[batch_size] for run in recording.process_runs if batch_size in run.warm_ups]
    return Row(
        candidate=recording.candidate,
        batch_size=batch_size,
        status=status,
        reason=reason,
        name=recording.name,
        placement=recording.placement,
        latency=latency,
        images_per_s=batch_size / latency.median * 1e3,
        ratio=ratio,
        instabilities=(
            *find_instabilities(
                samples,
                _normalise_rounds(recording, measurements, batch_size),
                _normalise_process_runs(recording, measurements, batch_size),
                ratio if recording.candidate != reference else None,
                is_steady=all(item.is_steady for item in warm_ups),
                threads=recording.candidate.threads,
            ),
            *find_leaks(recording.process_runs, samples),
        ),
        noise_ratio=distance if model.bundle and is_float32 else None,
        deviation_ratio=None if is_float32 else distance,
        max_delta=recording.max_delta,
        num_labelled=recording.num_labelled,
        num_correct=recording.num_correct,
        num_unanswered=recording.num_unanswered,
        file_bytes=model.size_bytes(recording.candidate),
        peak_bytes=max(sample.peak_bytes for sample in every) or None,
        stages=_stages(recording.process_runs, batch_size),
        num_inferences=sum(len(sample.latencies_ms) for sample in every),
        num_warm_up=int(statistics.median(item.num_inferences for item in warm_ups)) if warm_ups else 0,
        rounds_ms=rounds,
    )


def _status(samples: Sequence[Sample], model: ModelUnderTest, candidate: Candidate) -> tuple[str, str]:
    """What the checked outputs say, and the reason in half a sentence."""
    if all(sample.passed for sample in samples):
        return MEASURED, ""
    worst = max(sample.distance for sample in samples)
    if not candidate.is_float32:
        return "wrong", (
            f"WRONG: outputs are up to {worst:,.1f} times the quantisation error away from those that were recorded "
            f"when the artifact was built; at most {MAX_DEVIATION_RATIO:g} is allowed. `onward verify "
            f"{candidate.target}` says why"
        )
    distance = f"outputs are up to {worst:,.1f} times as far from the reference as PyTorch's"
    if not any(sample.is_wrong for sample in samples):
        return IMPRECISE, f"imprecise: {distance}; the parity gate allows {MAX_NOISE_RATIO:g}"
    if model.bundle:
        return "wrong", f"WRONG: {distance}"
    return "wrong", "WRONG: the same inputs do not give the same outputs"


def _is_wrong(recording: Recording, batch_size: int) -> bool:
    return any(sample.is_wrong for samples in recording.samples(batch_size) for sample in samples)


def _ratio(reference: Recording, rounds: Rounds, batch_size: int) -> Interval | None:
    pairs = pair_rounds(_p10_rounds(reference, batch_size), rounds)
    return ratio_interval(pairs) if pairs else None


def _stages(process_runs: Sequence[ProcessRun], batch_size: int) -> Stages:
    seconds = {stage: statistics.median(run.stages[stage] for run in process_runs) for stage in STAGES}
    first = [run.first_ms[batch_size] for run in process_runs if batch_size in run.first_ms]
    after_pause = [run.after_pause_ms for run in process_runs if run.after_pause_ms is not None]
    return Stages(
        **seconds,
        first_ms=statistics.median(first) if first else None,
        after_pause_ms=statistics.median(after_pause) if after_pause else None,
    )


def _p10_rounds(recording: Recording, batch_size: int) -> Rounds:
    """Process run -> round -> p10 latency."""
    return [[sample.p10_ms for sample in samples] for samples in recording.samples(batch_size)]


def _normalise_rounds(recording: Recording, measurements: Measurements, batch_size: int) -> Rounds:
    """Process run -> round -> latency over that of the other candidates and the speed probe in the same round."""
    others = [_over_median(other) for other in _others(recording, measurements, batch_size)]
    normalised = []
    for at, rounds in enumerate(_over_median(_p10_rounds(recording, batch_size))):
        by_round = zip(*(other[at] for other in others if at < len(other)), strict=False)
        normalised.append([own / statistics.median(level) for own, level in zip(rounds, by_round, strict=False)])
    return normalised


def _normalise_process_runs(recording: Recording, measurements: Measurements, batch_size: int) -> list[float]:
    """Process run -> p10 latency over that of the other candidates and the speed probe in the same process run."""
    others = [
        _over_median([[p10(rounds) for rounds in other]])[0] for other in _others(recording, measurements, batch_size)
    ]
    normalised = []
    for at, rounds in enumerate(_p10_rounds(recording, batch_size)):
        level = statistics.median(other[at] for other in others if at < len(other))
        normalised.append(p10(rounds) / level)
    return normalised


def _others(recording: Recording, measurements: Measurements, batch_size: int) -> list[Rounds]:
    """The speed probe, and the latencies of all other candidates: each process run -> round -> ms."""
    probe = [run[batch_size] for run in measurements.speed_probe_ms if batch_size in run]
    others = (item for item in measurements.recordings if item is not recording and item.samples(batch_size))
    return [probe, *(_p10_rounds(item, batch_size) for item in others)]


def _over_median(rounds: Rounds) -> Rounds:
    """Each figure over the median of all."""
    median = statistics.median(figure for some in rounds for figure in some)
    return [[figure / median for figure in some] for some in rounds]
