"""Private functions of Ray Train that `pipelines.ray_compat` overrides: this fails where an upgrade changed them."""

from ray.train.torch import TorchTrainer

from pipelines.ray_compat import TrainerWithoutDatasets


def nothing() -> None:
    """Trains nothing."""


def names(trainer: TorchTrainer) -> list[str]:
    return [type(callback).__name__ for callback in trainer._create_default_callbacks()]  # type: ignore[attr-defined]


def test_a_trainer_without_data_sets_has_every_callback_of_ray_but_that_of_data_sets() -> None:
    of_ray = names(TorchTrainer(nothing))
    assert "DatasetsCallback" in of_ray
    assert names(TrainerWithoutDatasets(nothing)) == [name for name in of_ray if name != "DatasetsCallback"]
