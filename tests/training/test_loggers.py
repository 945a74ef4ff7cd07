"""Loggers: what TensorBoard's own reader and MLflow's own server have of runs, some resumed, some not undisturbed."""

from __future__ import annotations

import json
import os
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import onward
from onward.errors import OutputError, UsageError
from onward_training.checkpoint import Checkpoint, Epoch
from onward_training.commands import app
from onward_training.data import Dataset
from onward_training.loggers import LoggedRun, RunLog, open_loggers, run_log
from onward_training.loop import train as run_training
from onward_training.options import TrainOptions
from onward_training.run_folder import RunFolder

SMALL = TrainOptions(model="cnn", arguments={"widths": [4], "num_hidden": 8}, epochs=3, batch_size=300)
Told = list[str]


def train(digits: Dataset, out: Path, *loggers: str, told: Told | None = None, **more: Any) -> Checkpoint:
    """A run of three epochs, or those in `options`, as `onward.train` does it."""
    folder, resume, options = RunFolder(out), more.pop("resume", False), more.pop("options", SMALL)
    found = folder.find() if resume else None
    logged = LoggedRun(folder, {"learning-rate": 0.5, "data": "digits", "entry": None}, found is not None, not resume)
    log = RunLog(logged, open_loggers(loggers), (told if told is not None else []).append)
    return run_training(digits, options, run_folder=folder, resume_from=found, log=log, **more)


def lines(out: Path) -> list[dict[str, float]]:
    """The file of metrics."""
    return [json.loads(line) for line in RunFolder(out).metrics_path.read_text().splitlines()]


@pytest.fixture
def has_tensorboard() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it imports packages that are deprecated
        pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def read_events(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), {"scalars": 0, "tensors": 0})
    events.Reload()
    return events


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Tag -> step -> value; a step that is there twice is an error."""
    events = read_events(folder)
    found = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"]}
    for tag, items in found.items():
        assert len({item.step for item in items}) == len(items), f"{tag}: {items}"
    return {tag: {item.step: item.value for item in items} for tag, items in found.items()}


def check_scalars(out: Path, folder: Path, num_epochs: int) -> None:
    """The numbers of the file of metrics, once each; TensorBoard keeps them in float32."""
    found, expected = scalars(folder), lines(out)
    assert set(found) == {*expected[0], "best_epoch"} - {"epoch"}
    for tag, values in found.items():
        assert list(values) == list(range(1, num_epochs + 1)), tag
        if tag != "best_epoch":
            assert values == pytest.approx({line["epoch"]: line[tag] for line in expected}, rel=1e-6), tag


@pytest.mark.usefixtures("has_tensorboard")
def test_tensorboard_has_the_numbers_of_the_metrics_and_a_resumed_run_goes_on(digits: Dataset, tmp_path: Path) -> None:
    out, told = tmp_path / "run.pt", Told()
    train(digits, out, "tensorboard", told=told)
    folder = tmp_path / "run.tensorboard"
    assert told == [f"tensorboard: {folder}: `tensorboard --logdir {tmp_path}` shows it"]
    check_scalars(out, folder, 3)
    longer = TrainOptions(model="cnn", arguments={"widths": [4], "num_hidden": 8}, epochs=5, batch_size=300)
    for _ in range(2):  # the second time, nothing is left to do
        best = train(digits, out, "tensorboard", resume=True, options=longer)
        check_scalars(out, folder, 5)
        assert len(list(folder.iterdir())) == 2
    events = read_events(folder)
    (options,), (*_, outcome) = (events.Tensors(f"{tag}/text_summary") for tag in ("options", "outcome"))
    assert b"| learning_rate | 0.5 |" in options.tensor_proto.string_val[0]
    assert f"| weights_sha256 | {best.weights_digest()} |".encode() in outcome.tensor_proto.string_val[0]
    assert f"| checkpoint | {out} |".encode() in outcome.tensor_proto.string_val[0]
    assert f"| best_epoch | {best.provenance['best_epoch']} |".encode() in outcome.tensor_proto.string_val[0]


@pytest.mark.usefixtures("has_tensorboard")
def test_an_epoch_that_a_kill_cut_short_is_written_again(digits: Dataset, tmp_path: Path) -> None:
    out, folder = tmp_path / "run.pt", tmp_path / "run.tensorboard"
    train(digits, out)
    train(digits, out, "tensorboard", resume=True)  # a logger may come later
    (file,) = folder.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[: content.rindex(b"validation_accuracy")])  # within the last epoch
    assert list(scalars(folder)["validation_loss"]) == [1, 2]
    train(digits, out, "tensorboard", resume=True)
    check_scalars(out, folder, 3)


@pytest.mark.usefixtures("has_tensorboard")
def test_a_folder_of_logs_has_a_folder_for_each_run(digits: Dataset, tmp_path: Path) -> None:
    logger, runs = f"tensorboard:{tmp_path / 'runs'}", tmp_path / "runs"
    train(digits, tmp_path / "a" / "net.pt", logger)
    train(digits, tmp_path / "b" / "net.pt", logger)
    assert {item.name for item in runs.iterdir()} == {"net", "net-2"}
    train(digits, tmp_path / "b" / "net.pt", logger)  # it replaces the run, and its log
    check_scalars(tmp_path / "a" / "net.pt", runs / "net", 3)
    check_scalars(tmp_path / "b" / "net.pt", runs / "net-2", 3)
    assert len(list((runs / "net-2").iterdir())) == 1
    train(digits, tmp_path / "b" / "net.pt")  # a run without a log has none of an earlier one
    assert RunFolder(tmp_path / "b" / "net.pt").logs() == {}
    RunFolder(tmp_path / "b" / "net.pt").save_logs({logger: "../a"})
    told = Told()
    train(digits, tmp_path / "b" / "net.pt", logger, told=told)
    assert "expected one without a path" in told[0]


@pytest.mark.usefixtures("has_tensorboard")
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_disk_of_tensorboard_costs_no_training(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_log, "RETRY_AFTER_S", 0)
    folder, told = RunFolder(tmp_path / "run.pt"), Told()
    (logger,) = open_loggers(["tensorboard"])

    def fill(epoch: Epoch) -> None:
        if epoch.epoch == 1:
            logger.file.close()  # type: ignore[attr-defined]
            logger.file = Path("/dev/full").open("wb")  # type: ignore[attr-defined]  # noqa: SIM115

    log = RunLog(LoggedRun(folder), [logger], told.append)
    logged = run_training(digits, SMALL, run_folder=folder, log=log, on_epoch=fill)
    assert logged.weights_digest() == run_training(digits, SMALL).weights_digest()
    assert told[1:] == [
        "tensorboard cannot be written: No space left on device. Training goes on, and the epochs that are missing "
        "there are written when it works again.",
        "tensorboard works again, and has all 3 epochs",
    ]
    check_scalars(folder.path, tmp_path / "run.tensorboard", 3)


@pytest.mark.usefixtures("has_tensorboard")
def test_loggers_are_options_of_the_command_of_its_file_and_of_python(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = [
        "train",
        "--model",
        "perceptron",
        "--epochs",
        "1",
        "--logger",
        "tensorboard:logs",
        "--logger",
        "tensorboard",
    ]
    result = CliRunner().invoke(app, [*command, "--out", "run.pt", "--json"])
    assert result.exit_code == 0, result.exception
    logs = {"tensorboard:logs": "run", "tensorboard": "run.tensorboard"}
    assert json.loads(result.stdout)["logs"] == logs == json.loads(Path("run.logs.json").read_text())
    assert 'logger = ["tensorboard:logs", "tensorboard"]' in Path("run.options.toml").read_text()
    again = CliRunner().invoke(app, ["train", "--config", "run.options.toml", "--out", "again.pt"])
    assert again.exit_code == 0, again.output
    check_scalars(Path("again.pt"), Path("logs/again"), 1)
    Path("own.toml").write_text('logger = "tensorboard"\nmodel = "perceptron"\nepochs = 1')
    assert CliRunner().invoke(app, ["train", "--config", "own.toml", "--out", "own.pt"]).exit_code == 0
    check_scalars(Path("own.pt"), Path("own.tensorboard"), 1)
    onward.train("digits", out="python.pt", loggers=["tensorboard"], model="perceptron", epochs=1)
    check_scalars(Path("python.pt"), Path("python.tensorboard"), 1)
    with pytest.raises(UsageError, match="loggers need out="):
        onward.train("digits", loggers=["tensorboard"])


@pytest.mark.parametrize("logger", ["tensorboard", "mlflow:http://127.0.0.1:5000"])
def test_a_missing_extra_is_one_sentence_before_anything_is_read(
    logger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = logger.partition(":")[0]
    for module in (name, "tensorboard.compat.proto"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    (tmp_path / "empty").mkdir()  # reading it would be an error
    with pytest.raises(UsageError, match=rf"--logger {logger} needs {name}: pip install 'onward\[{name}\]'"):
        onward.train(f"folder:{tmp_path / 'empty'}", out=tmp_path / "run.pt", loggers=[logger])


def test_a_name_of_no_logger_and_a_password_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=r"logger 'tensorbord' is unknown, expected one of .* Did you mean tensorboard\?"
    ):
        open_loggers(["tensorbord"])
    with pytest.raises(UsageError, match=r"set \$MLFLOW_TRACKING_URI to it"):
        open_loggers(["mlflow:postgresql://me:secret@host/runs"])


class Server:
    """MLflow's own tracking server, on one port, that can be stopped and started again."""

    def __init__(self, application: Any) -> None:
        self.application, self.port = application, 0
        self.start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        from werkzeug.serving import make_server

        self.server = make_server("127.0.0.1", self.port, self.application)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@contextmanager
def environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, was in before.items():
            os.environ.pop(name) if was is None else os.environ.update({name: was})


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("mlflow")
    store = {"_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder}/m.db", "_MLFLOW_SERVER_ARTIFACT_ROOT": str(folder)}
    with warnings.catch_warnings(), environment(**store, MLFLOW_DISABLE_TELEMETRY="true"):
        warnings.simplefilter("ignore")  # what it imports is deprecated here and there
        pytest.importorskip("flask_cors")
        pytest.importorskip("mlflow")
        from mlflow.server import app as application

        server = Server(application)
        yield server
        server.stop()


@pytest.fixture
def server(running: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server, which answers when the test begins."""
    monkeypatch.setattr(run_log, "RETRY_AFTER_S", 0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield running


def run_of(server: Server, out: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(server.uri).get_run(RunFolder(out).logs()[f"mlflow:{server.uri}"])


def check_history(server: Server, out: Path, num_epochs: int) -> None:
    """The numbers of the file of metrics, once each."""
    from mlflow import MlflowClient

    expected, run = lines(out), run_of(server, out)
    assert set(run.data.metrics) == {*expected[0], "best_epoch"} - {"epoch"}
    for name in set(run.data.metrics) - {"best_epoch"}:
        items = MlflowClient(server.uri).get_metric_history(run.info.run_id, name)
        assert [item.step for item in items] == list(range(1, num_epochs + 1)), name
        assert [item.value for item in items] == [line[name] for line in expected], name


def test_mlflow_has_the_numbers_of_the_metrics_and_a_resumed_run_goes_on(
    server: Server, digits: Dataset, tmp_path: Path
) -> None:
    out, logger = tmp_path / "run.pt", f"mlflow:{server.uri}"
    train(digits, out, logger)
    check_history(server, out, 3)
    first = run_of(server, out)
    assert (first.info.status, first.info.run_name) == ("FINISHED", "run")
    assert first.data.params == {"learning_rate": "0.5", "data": "digits"}
    longer = TrainOptions(model="cnn", arguments={"widths": [4], "num_hidden": 8}, epochs=4, batch_size=300)
    stops = iter([False, False, True])
    train(digits, out, logger, resume=True, options=longer, should_stop=lambda: next(stops))
    assert run_of(server, out).info.status == "KILLED"
    best = train(digits, out, logger, resume=True, options=longer)
    check_history(server, out, 4)
    second = run_of(server, out)
    assert second.data.params == first.data.params
    assert (second.info.run_id, second.info.status) == (first.info.run_id, "FINISHED")
    assert second.data.tags.items() >= {
        "best_epoch": str(best.provenance["best_epoch"]),
        "checkpoint": str(out),
        "weights_sha256": best.weights_digest(),
    }.items()  # fmt: skip


def test_a_server_that_is_away_for_a_while_costs_nothing(server: Server, digits: Dataset, tmp_path: Path) -> None:
    out, told = tmp_path / "run.pt", Told()
    options = TrainOptions(model="cnn", arguments={"widths": [4], "num_hidden": 8}, epochs=5, batch_size=300)
    steps: dict[int, Callable[[], None]] = {2: server.stop, 4: server.start}

    def on_epoch(epoch: Epoch) -> None:
        steps.get(epoch.epoch, lambda: None)()

    logged = train(digits, out, f"mlflow:{server.uri}", told=told, options=options, on_epoch=on_epoch)
    assert logged.weights_digest() == run_training(digits, options).weights_digest()
    check_history(server, out, 5)
    assert told[1:] == [
        f"mlflow:{server.uri} cannot be written: Connection refused. Training goes on, and the epochs that are missing "
        "there are written when it works again.",
        f"mlflow:{server.uri} works again, and has all 5 epochs",
    ]


def test_what_a_server_lacks_is_written_by_resume(server: Server, digits: Dataset, tmp_path: Path) -> None:
    out, told, logger = tmp_path / "run.pt", Told(), f"mlflow:{server.uri}"
    try:
        train(digits, out, logger, told=told, on_epoch=lambda epoch: server.stop() if epoch.epoch == 1 else None)
    finally:
        server.start()
    assert "own files are complete; the same command with --resume writes what is missing there." in told[-1]
    assert [line["epoch"] for line in lines(out)] == [1, 2, 3]
    train(digits, out, logger, resume=True)
    check_history(server, out, 3)
    from mlflow import MlflowClient

    MlflowClient(server.uri).delete_run(run_of(server, out).info.run_id)
    train(digits, out, logger, resume=True)
    assert run_of(server, out).info.lifecycle_stage == "active"
    check_history(server, out, 3)


def test_a_server_that_does_not_answer_is_one_sentence_before_anything_is_read(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    uri = f"http://127.0.0.1:{port}"
    (tmp_path / "empty").mkdir()  # reading it would be an error
    with pytest.raises(OutputError, match=f"--logger mlflow:{uri} cannot be used: Connection refused"):
        onward.train(f"folder:{tmp_path / 'empty'}", out=tmp_path / "run.pt", loggers=[f"mlflow:{uri}"])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)  # that of the server here
    with pytest.raises(
        OutputError, match=r"--logger mlflow cannot be used: Connection refused. Without a URI it is \$ML"
    ):
        open_loggers(["mlflow"])
