"""GPUs of the server: what the deployments reserve, and the error where there are too few."""

from pathlib import Path

import pytest

from serve import app
from serve.models.replica_models import StaticSource
from txrec.config import ServeConfig
from txrec.errors import ConfigError


def test_retrievers_and_rankers_reserve_a_share_of_a_gpu_and_ingresses_none(tiny_bundle: Path) -> None:
    source = StaticSource(lambda: (_ for _ in ()).throw(AssertionError("opened by replicas only")))
    ingress = app.bind(source, ServeConfig(use_gpu=True, gpus_per_replica=0.5))
    assert "num_gpus" not in _options(ingress)
    retriever = ingress._bound_deployment.init_args[0]
    ranker = retriever._bound_deployment.init_args[1]
    assert [_options(one)["num_gpus"] for one in (retriever, ranker)] == [0.5, 0.5]


def test_a_registry_is_opened_on_the_gpu_where_the_configuration_says_so(tmp_path: Path, tiny_bundle: Path) -> None:
    application = app.build(app.AppArgs(bundle=str(tiny_bundle), use_gpu=True, state=str(tmp_path / "state.sqlite")))
    retriever = application._bound_deployment.init_args[0]
    opener = retriever._bound_deployment.init_args[0]
    assert opener.args == (str(tiny_bundle), "cuda")


def test_too_few_gpus_are_said_before_anything_starts() -> None:
    config = ServeConfig(use_gpu=True, num_retrievers=3, num_rankers=1)
    app._require_gpus(config, 1.0)
    with pytest.raises(ConfigError, match=r"need 1 GPUs \(0.25 each\), the cluster has 0; lower serve"):
        app._require_gpus(config, 0.0)


def _options(application: object) -> dict[str, object]:
    options: dict[str, object] = application._bound_deployment.ray_actor_options  # type: ignore[attr-defined]
    return options
