"""MLflow: a run's log is a run of the tracking server, or of the database, at a URI."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from onward.errors import OutputError, UsageError, install_command, reason_of
from onward_training.loggers.logger import LOSS, LoggedRun, Status, why

__all__ = ["MLflowLogger"]

#: The experiment of the runs, unless `$MLFLOW_EXPERIMENT_NAME` or `$MLFLOW_EXPERIMENT_ID` names one.
EXPERIMENT = "onward"
#: MLflow's defaults wait up to four minutes for a server that is gone. Somebody's own values stay.
PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
#: Before it is imported: MLflow sends events to its maker, and reports what it does to its database.
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_LOGGING_LEVEL": "WARNING"}


class MLflowLogger:
    """Writes to a tracking server, or to a database.

    Args:
        uri: Of either; None for `$MLFLOW_TRACKING_URI`, or else MLflow's own default.

    Raises:
        UsageError: The URI has a password in it.
    """

    def __init__(self, uri: str | None = None) -> None:
        if uri is not None and urlsplit(uri).password:
            raise UsageError(
                "the URI of --logger mlflow has a password in it, and would be written beside the checkpoint: set "
                "$MLFLOW_TRACKING_URI to it, and write --logger mlflow."
            )
        self.uri = uri
        self.run_id = ""
        self.place = ""

    @property
    def key(self) -> str:
        """Its name in messages, and in the file beside the checkpoint."""
        return "mlflow" if self.uri is None else f"mlflow:{self.uri}"

    def check(self) -> None:
        """Check that the server answers.

        Raises:
            OutputError: It does not.
            UsageError: mlflow is not installed.
        """
        try:
            with _client(self.uri) as client:
                _find_experiment(client)
        except UsageError:
            raise
        except ImportError as error:
            raise UsageError(
                f"--logger {self.key} needs mlflow: {install_command('mlflow')} ({reason_of(error)})"
            ) from error
        except Exception as error:  # of MLflow, its database or its connection
            hint = "" if self.uri else " Without a URI it is $MLFLOW_TRACKING_URI, or MLflow's own default."
            raise OutputError(f"--logger {self.key} cannot be used: {why(error)}.{hint}") from error

    def open(self, run: LoggedRun, known: str | None) -> tuple[str, set[int]]:
        """Go on with the run `known` if it is still there, or begin a new one."""
        from mlflow.entities import Param, RunTag

        with _client(self.uri) as client:
            earlier = known or self.run_id  # the latter if the server went away while it was opened
            found = _find_run(client, earlier) if earlier else None
            if found is None:
                tags = {"mlflow.source.name": "onward train", "mlflow.source.type": "LOCAL"}
                found = client.create_run(_experiment(client), run_name=run.name, tags=tags)
            self.run_id, had = found.info.run_id, found.data.params
            client.update_run(self.run_id, status="RUNNING")
            options = {name: str(value) for name, value in run.options.items()}
            changed = {
                name for name, value in options.items() if had.get(name, value) != value
            }  # MLflow allows no change
            client.log_batch(
                self.run_id,
                params=[Param(name, value) for name, value in options.items() if name not in had],
                tags=[RunTag(f"resumed.{name}", options[name]) for name in changed],
            )
            self.place = f"run {self.run_id}" + ("" if self.uri else f" at {_without_password(client.tracking_uri)}")
            return self.run_id, {item.step for item in client.get_metric_history(self.run_id, LOSS)}

    def describe(self) -> str:
        """Where people find the log that is open."""
        return self.place

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Write the numbers of one epoch, in one request."""
        from mlflow.entities import Metric

        now_ms = time.time_ns() // 10**6
        with _client(self.uri) as client:
            client.log_batch(
                self.run_id, metrics=[Metric(name, value, now_ms, epoch) for name, value in values.items()]
            )

    def close(self, num_epochs: int, status: Status, outcome: Mapping[str, str]) -> None:
        """Say how the run ended."""
        from mlflow.entities import RunTag

        with _client(self.uri) as client:
            client.log_batch(self.run_id, tags=[RunTag(*item) for item in outcome.items()])
            client.set_terminated(self.run_id, status)


@contextmanager
def _client(uri: str | None) -> Iterator[Any]:
    """MLflow's client, which neither waits for long nor prints."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    chosen = {name: os.environ.get(name, value) for name, value in PATIENCE.items()}
    chosen["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    before = {name: os.environ.get(name) for name in chosen}
    os.environ.update(chosen)
    try:
        from mlflow import MlflowClient

        yield MlflowClient(tracking_uri=uri)
    finally:
        for name, was in before.items():
            if was is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = was


def _without_password(uri: str) -> str:
    parts = urlsplit(uri)
    return uri if parts.password is None else uri.replace(f":{parts.password}@", "@", 1)


def _find_experiment(client: Any) -> Any:
    """The experiment, None if there is none yet.

    Raises:
        UsageError: It has been deleted.
    """
    if experiment_id := os.environ.get("MLFLOW_EXPERIMENT_ID"):
        found = client.get_experiment(experiment_id)
    else:
        found = client.get_experiment_by_name(os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT)
    if found is not None and found.lifecycle_stage == "deleted":
        raise UsageError(
            f"MLflow's experiment {found.name!r} has been deleted: restore it, or name another in "
            f"$MLFLOW_EXPERIMENT_NAME."
        )
    return found


def _experiment(client: Any) -> str:
    """The ID of the experiment, which is made if it is not there."""
    found = _find_experiment(client)
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or EXPERIMENT
    return str(client.create_experiment(name) if found is None else found.experiment_id)


def _find_run(client: Any, run_id: str) -> Any:
    """A run; None if it is not there any more."""
    from mlflow.exceptions import MlflowException

    try:
        found = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
    return None if found.info.lifecycle_stage == "deleted" else found
