"""A fresh process behaves as `python -c` does, whether it is a fork or not, and knows nothing of who asks for it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from onward_export.processes import TORCH, FreshProcess, fresh_process

ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="forks are used on Linux only")


@pytest.fixture(params=[pytest.param(True, marks=ON_LINUX), False], ids=["fork", "new process"])
def both(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test runs twice: with forks, and with new processes."""
    monkeypatch.setattr(fresh_process, "CAN_FORK", request.param)


BOTH = pytest.mark.usefixtures("both")
#: What is imported in no time, where it does not matter what is.
QUICK = ("json",)


@pytest.fixture
def started() -> Iterator[list[FreshProcess]]:
    processes: list[FreshProcess] = []
    yield processes
    for process in processes:
        process.close()


def run(
    program: str, *arguments: str, paths: list[str] | None = None, imports: Sequence[str] = QUICK
) -> tuple[int, str, str]:
    """The exit code, and what the program wrote to standard output and errors."""
    process = FreshProcess(program, arguments, paths=paths, imports=imports)
    try:
        with contextlib.suppress(BrokenPipeError):  # one that reads nothing may have ended
            process.stdin.write(b"hello")
            process.stdin.close()
        written = process.stdout.read().decode()
        return process.wait(), written, process.errors()
    finally:
        process.close()


@BOTH
def test_it_has_arguments_streams_a_folder_and_an_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLOUR", "blue")
    program = (
        "import os, sys\n"
        "print(sys.argv[1:], sys.stdin.read(), os.getcwd(), os.environ['COLOUR'])\n"
        "print('oh', file=sys.stderr)"
    )
    assert run(program, "a", "b c") == (0, f"['a', 'b c'] hello {tmp_path} blue\n", "oh\n")


@BOTH
@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("import os; os._exit(7)", 7),
        ("raise SystemExit(4)", 4),
        ("1 / 0", 1),
        ("import os; os.kill(os.getpid(), 11)", -signal.SIGSEGV),
    ],
    ids=["exit", "SystemExit", "error", "crash"],
)
def test_its_exit_code_tells_how_it_ended(program: str, code: int) -> None:
    ended, _, errors = run(program)
    assert ended == code
    assert ("ZeroDivisionError" in errors) == (code == 1)


@BOTH
def test_it_can_be_ended(started: list[FreshProcess]) -> None:
    process = FreshProcess("import time; time.sleep(600)", [], imports=QUICK)
    started.append(process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    process.kill()  # again does no harm


@BOTH
def test_it_finds_the_users_modules_only_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a_net.py").write_text("WORD = 'found'\n")
    monkeypatch.chdir(tmp_path)
    program = "import a_net; print(a_net.WORD)"
    assert run(program)[0] == 1
    assert run(program, paths=[*sys.path, str(tmp_path)])[:2] == (0, "found\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert run(program)[:2] == (0, "found\n")


def test_it_has_imported_torch_and_nothing_of_the_exporter_or_of_the_user() -> None:
    code, written, _ = run("import sys; print(*sorted(sys.modules))", imports=TORCH)
    modules = set(written.split())
    assert code == 0
    assert ("torch" in modules) == (sys.platform == "linux")
    assert not modules & {"torchvision", "onnx", "onward_training", "onward_export.publish", "conftest", "pytest"}


@ON_LINUX
def test_another_process_is_forked_after_the_one_that_forks_was_ended() -> None:
    assert run("print(1)")[:2] == (0, "1\n")
    before = fresh_process._servers[QUICK]
    before._popen.kill()
    before._popen.wait()
    assert run("print(2)")[:2] == (0, "2\n")
    assert fresh_process._servers[QUICK] is not before


@ON_LINUX
def test_the_number_of_threads_is_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_process, "_servers", {})
    for count in ("1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", count)
        assert run("import torch; print(torch.get_num_threads())", imports=("torch",))[1] == f"{count}\n"
    fresh_process._end_servers()


@ON_LINUX
def test_one_that_is_closed_before_it_is_forked_never_runs_and_nobody_waits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(fresh_process, "_servers", {})
    (tmp_path / "slow.py").write_text("import time; time.sleep(1)")
    monkeypatch.setattr(fresh_process, "ROOTS", (*fresh_process.ROOTS, str(tmp_path)))
    process = FreshProcess("open('ran', 'w')", [], imports=("slow",))
    process.close()
    assert process._pid is None
    another = FreshProcess("print(5)", [], imports=("slow",))
    assert another.stdout.read() == b"5\n"
    another.close()
    assert not Path("ran").exists()
    fresh_process._end_servers()


@ON_LINUX
def test_an_environment_may_be_larger_than_a_message(monkeypatch: pytest.MonkeyPatch) -> None:
    for at in range(12):
        monkeypatch.setenv(f"A_SERVICE_{at}", "x" * 100_000)
    assert run("import os; print(len(os.environ['A_SERVICE_11']))")[1] == "100000\n"


@ON_LINUX
def test_ctrl_c_in_the_terminal_does_not_reach_it() -> None:
    assert int(run("import os; print(os.getsid(0))")[1]) != os.getsid(0)


@ON_LINUX
def test_a_fork_of_the_process_that_asks_may_ask_too() -> None:
    assert run("print(1)")[1] == "1\n"
    if not (child := os.fork()):
        os._exit(0 if run("print(3)")[1] == "3\n" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert run("print(4)")[1] == "4\n"
