"""Whether few samples decide as many do: noise ratios of sound files with 8, 16, 32 and 64 samples of each kind.

The networks are those of `make faults`; each is drawn and judged several times, with other samples each time.
`docs/decisions/0019-samples.md` says what came out.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.faults.networks import NETWORKS, NetworkUnderTest, build
from onward.backends import Threads, open_backend
from onward.cli.console import print_table, remark
from onward.host.cpu import find_processor
from onward.parity import MAX_NOISE_RATIO
from onward_export.deployable import make_deployable
from onward_export.formats.onnx_file import write_onnx
from onward_export.formats.program import export_program
from onward_export.reference import make_reference
from onward_export.reference.samples import gather_samples

COUNTS = (8, 16, 32, 64)


def noise_ratios(network: NetworkUnderTest, folder: Path, seeds: int) -> list[list[float]]:
    """For each seed, the noise ratio of the ONNX file with each of `COUNTS` samples."""
    deployable, path = make_deployable(network.network, network.signature), folder / "model.onnx"
    write_onnx(export_program(deployable, network.signature), path, network.signature, {})
    backend = open_backend("onnx", path.read_bytes(), network.signature, threads=Threads(1))
    rows = []
    for seed in range(seeds):
        samples = gather_samples(network.signature, None, num_samples=COUNTS[-1], seed=seed)
        reference = make_reference(deployable, samples, network.signature, num_first=COUNTS[0])
        ratios = [reference.record.judge("onnx", backend.run).noise_ratio]
        for count in COUNTS[1:]:
            reference = reference.extended(count)
            ratios.append(reference.record.judge("onnx", backend.run).noise_ratio)
        rows.append(ratios)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS))
    arguments = parser.parse_args()
    table, every = [], []
    for name in arguments.networks:
        remark(f"{name} …")
        with tempfile.TemporaryDirectory() as folder:
            ratios = np.array(noise_ratios(build(name), Path(folder), arguments.seeds))
        every.append(ratios)
        table.append(
            [name, *(f"{low:.2f} to {high:.2f}" for low, high in zip(ratios.min(0), ratios.max(0), strict=True))]
        )
    together = np.concatenate(every)
    table.append(
        ["above the limit", *(f"{(column > MAX_NOISE_RATIO).sum()} of {len(column)}" for column in together.T)]
    )
    table.append(
        ["above half of it", *(f"{(column > MAX_NOISE_RATIO / 2).sum()} of {len(column)}" for column in together.T)]
    )
    print(find_processor().model)
    print_table(["noise ratio", *(f">{count} samples" for count in COUNTS)], table)


if __name__ == "__main__":
    main()
