"""Standard streams that are closed, full, or read by nobody: no traceback, and no sentence that Python adds."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from onward.bundle import Bundle
from onward.cli.console import interruptible

ROOT = Path(__file__).parents[3]
pytestmark = pytest.mark.skipif(not shutil.which("bash"), reason="the streams are closed by bash")


def run(script: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A line of bash, in which "$@" is Onward with these arguments."""
    command = ["bash", "-c", script, "bash", sys.executable, "-m", "onward", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ('"$@" --json | true; exit ${PIPESTATUS[0]}', 141, ""),
        ('"$@" | true; exit ${PIPESTATUS[0]}', 141, ""),
        ('"$@" >&-', 0, ""),
        ('"$@" <&- >&- 2>&-', 0, ""),
        pytest.param(
            '"$@" > /dev/full',
            2,
            "onward: the system: No space left on device.\n",
            marks=pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full"),
        ),
    ],
)
def test_a_stream_that_cannot_be_written_gives_no_traceback(
    script: str, code: int, said: str, shared_bundle: Bundle
) -> None:
    done = run(script, "inspect", shared_bundle.path)
    assert (done.returncode, done.stderr) == (code, said)


def test_predictions_are_whole_where_standard_output_is_closed(shared_bundle: Bundle, tmp_path: Path) -> None:
    """The next file that is opened would take its number, and what is printed would go into the rows."""
    out = tmp_path / "rows.csv"
    done = run('"$@" <&- >&-', "predict", shared_bundle.path, shared_bundle.path / "golden.npz", "--out", out)
    assert "onward: " in done.stderr  # a golden record is no array of images
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no SIGHUP")
def test_a_hang_up_is_recorded_unless_it_is_ignored() -> None:
    before = signal.getsignal(signal.SIGHUP)
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        with interruptible() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not stop()
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        with interruptible() as stop:
            os.kill(os.getpid(), signal.SIGHUP)
            assert stop()
            assert stop.exit_code == 129
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)
