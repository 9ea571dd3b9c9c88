"""Private functions of Ray Train that txrec relies on, in one place.

`tests/pipelines/test_ray_compat.py` says whether they are still there after an upgrade.
"""

from typing import Any

from ray.train.torch import TorchTrainer


class TrainerWithoutDatasets(TorchTrainer):
    """Ray Train's trainer for workers that read their data themselves.

    Ray starts an actor for data sets in every training, also where there are none: a process more, whose start takes
    seconds. Where Ray no longer calls this method, the actor starts.
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks: list[Any] = super()._create_default_callbacks()  # type: ignore[misc]
        return [one for one in callbacks if type(one).__name__ != "DatasetsCallback"]
