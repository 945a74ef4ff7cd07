"""A sample of `make kills` for predict: real runs are killed at random moments and resumed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.kills.predict import kill_predict

pytestmark = pytest.mark.long

NUM_KILLS = 2


def test_killed_at_random_moments_every_input_has_one_row(tmp_path: Path) -> None:
    tally = kill_predict(tmp_path, random.Random(0), NUM_KILLS)
    assert tally.num_kills >= NUM_KILLS
    assert tally.num_resumed
    assert tally.broken == []
