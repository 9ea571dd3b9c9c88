"""Training records: figures of a run in TensorBoard, and in MLflow where configured."""

import logging
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from txrec.config import Config
from txrec.errors import TrainingError

_KEY = "txrec.key"
_log = logging.getLogger(__name__)


class Record(Protocol):
    """A place for figures; one call an epoch."""

    def add(self, figures: Mapping[str, float], epoch: int) -> None:
        """Writes the figures of an epoch."""

    def close(self) -> None:
        """Closes the record."""


class TensorBoardRecord:
    """A folder of TensorBoard event files."""

    def __init__(self, folder: Path) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes half a second, which every worker would pay

        self._writer = SummaryWriter(str(folder))

    def add(self, figures: Mapping[str, float], epoch: int) -> None:
        """Writes the figures of an epoch; they can be seen at once."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()


class MlflowRecord:
    """A run of an MLflow experiment; training that goes on after an interruption goes on in the same run.

    A server that is down while training costs figures, not the training.
    """

    def __init__(self, client: Any, experiment: str, key: str, settings: Mapping[str, Any]) -> None:
        """Finds the run, or starts it with its settings as parameters.

        Args:
            client: an `mlflow.MlflowClient`.
            experiment: its name.
            key: what tells this training from others.
            settings: dotted key = value.
        """
        self._client = client
        known = client.get_experiment_by_name(experiment)
        place = known.experiment_id if known else client.create_experiment(experiment)
        runs = client.search_runs([place], f"tags.`{_KEY}` = '{key}'", max_results=1)
        run = runs[0] if runs else client.create_run(place, tags={_KEY: key}, run_name=key)
        self._run: str = run.info.run_id
        for name, value in {} if runs else settings.items():
            client.log_param(self._run, name, value)

    def add(self, figures: Mapping[str, float], epoch: int) -> None:
        """Writes the figures of an epoch; MLflow allows no `@` in their names."""
        try:
            for name, value in figures.items():
                self._client.log_metric(self._run, name.replace("@", "_at_"), value, step=epoch)
        except Exception as error:  # whatever a network may bring
            _log.warning("epoch %d was not logged to MLflow: %s", epoch, error)

    def close(self) -> None:
        """Marks the run as finished."""
        try:
            self._client.set_terminated(self._run)
        except Exception as error:
            _log.warning("the MLflow run was not closed: %s", error)


class Records:
    """All records of a run, closed together."""

    def __init__(self, records: list[Record]) -> None:
        self._records = records

    @classmethod
    def of(cls, config: Config, tensorboard: Path, key: str) -> "Records":
        """The records that a configuration asks for.

        Raises:
            TrainingError: MLflow is configured and not installed, or does not answer.
        """
        records: list[Record] = [TensorBoardRecord(tensorboard)]
        if config.train.mlflow_uri:
            settings = {f"{name}.{key}": value for name in ("model", "train") for key, value in getattr(config, name)}
            try:
                records.append(MlflowRecord(_client(config.train.mlflow_uri), config.name, key, settings))
            except TrainingError:
                raise
            except Exception as error:
                raise TrainingError(f"train.mlflow_uri = {config.train.mlflow_uri!r}: {error}") from error
        return cls(records)

    def add(self, figures: Mapping[str, float], epoch: int) -> None:
        """Writes the figures of an epoch to all of them."""
        for record in self._records:
            record.add(figures, epoch)

    def __enter__(self) -> "Records":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for record in self._records:
            record.close()


def _client(uri: str) -> Any:
    try:
        from mlflow import MlflowClient
    except ImportError:
        raise TrainingError(
            f"train.mlflow_uri = {uri!r} needs MLflow, which is not installed: pip install 'txrec[mlflow]'"
        ) from None
    return MlflowClient(uri)
