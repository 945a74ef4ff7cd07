from __future__ import annotations

import numpy as np

from onward.benchmarking.sample import Sample


def test_a_sample_reads_back() -> None:
    one = Sample(
        latencies_ms=np.array([0.5, 0.25], np.float32),
        wall_s=0.1,
        own_s=0.1,
        waited_s=None,
        stolen_s=0.0,
        distance=1.0,
        passed=True,
        is_wrong=False,
        num_threads=4,
        peak_bytes=1 << 20,
    )
    again = Sample.from_json(one.to_json())
    np.testing.assert_array_equal(again.latencies_ms, one.latencies_ms)
    assert again.to_json() == one.to_json()
