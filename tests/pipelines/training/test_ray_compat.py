"""Private functions of Ray Train that `pipelines.training.ray_compat` overrides; an upgrade without one fails here."""

import pytest
from ray.train.torch import TorchTrainer

from pipelines.training.ray_compat import CLEANER, DATASETS, TrainerWithoutDatasets


def nothing() -> None:
    """Trains nothing."""


def names(trainer: TorchTrainer) -> list[str]:
    return [type(callback).__name__ for callback in trainer._create_default_callbacks()]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("address", "superfluous"), [("10.0.0.1:6379", {DATASETS}), ("", {DATASETS, CLEANER})])
def test_a_trainer_without_data_sets_has_every_callback_of_ray_but_superfluous_ones(
    address: str, superfluous: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address)
    of_ray = names(TorchTrainer(nothing))
    assert superfluous < set(of_ray)
    assert names(TrainerWithoutDatasets(nothing)) == [name for name in of_ray if name not in superfluous]
