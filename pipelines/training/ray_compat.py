"""Private functions of Ray Train that txrec relies on, in one place.

`tests/pipelines/training/test_ray_compat.py` says whether they are still there after an upgrade.
"""

import os
from typing import Any

from ray.train.torch import TorchTrainer

DATASETS, CLEANER = "DatasetsCallback", "PlacementGroupCleanerCallback"


class TrainerWithoutDatasets(TorchTrainer):
    """Ray Train's trainer for workers that read their data themselves.

    Ray starts an actor for data sets in every training, also where there are none, and one that frees the workers'
    resources when a controller dies before its driver: on a local cluster, which ends with its driver, they are free
    then. Each is a process more, whose start takes seconds. Where Ray no longer calls this method, both start.
    """

    def _create_default_callbacks(self) -> list[Any]:
        callbacks: list[Any] = super()._create_default_callbacks()  # type: ignore[misc]
        superfluous = (DATASETS,) if os.environ.get("RAY_ADDRESS") else (DATASETS, CLEANER)
        return [one for one in callbacks if type(one).__name__ not in superfluous]
