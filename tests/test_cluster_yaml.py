"""The cluster files and the Serve file pass Ray's own schema checks, offline, and keep Ray's ports closed."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from serve.app import AppArgs

ROOT = Path(__file__).parent.parent
CLOUDS = (ROOT / "cluster.yaml", ROOT / "deploy" / "cluster-gcp.yaml")
CLUSTERS = (*CLOUDS, ROOT / "deploy" / "cluster-own-machines.yaml")


def _read(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load(file.read_text())
    return content


@pytest.mark.parametrize("file", CLUSTERS, ids=lambda file: file.name)
def test_rays_own_schema_accepts_a_cluster_file(file: Path) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(_read(file)))


@pytest.mark.parametrize("file", CLOUDS, ids=lambda file: file.name)
def test_the_head_node_type_of_a_cloud_exists_and_gpu_workers_can_scale_up(file: Path) -> None:
    config = _read(file)
    types = config["available_node_types"]
    assert config["head_node_type"] in types
    workers = [node for name, node in types.items() if name != config["head_node_type"] and node["max_workers"] > 0]
    kinds = [node["node_config"].get("InstanceType") or node["node_config"]["machineType"] for node in workers]
    assert any(kind.startswith(("g", "p")) for kind in kinds)


@pytest.mark.parametrize("file", CLUSTERS, ids=lambda file: file.name)
def test_rays_dashboard_listens_on_loopback_and_every_call_carries_a_token_that_is_copied(file: Path) -> None:
    config = _read(file)
    head = " ".join(config["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in head
    for start in (head, " ".join(config["worker_start_ray_commands"])):
        assert "RAY_AUTH_MODE=token" in start
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


@pytest.mark.parametrize("file", CLUSTERS, ids=lambda file: file.name)
def test_ray_serves_proxy_may_run_on_every_machine(file: Path) -> None:
    config = _read(file)
    for start in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        assert "RAY_SERVE_ENABLE_DIRECT_INGRESS=0" in " ".join(start)  # else the first setting makes it the head only


def test_rays_own_schema_and_the_application_accept_the_serve_file() -> None:
    from ray.serve.schema import ServeDeploySchema

    deployment = ServeDeploySchema.model_validate(_read(ROOT / "deploy" / "serve.yaml"))
    application = deployment.applications[0]
    assert application.import_path == "serve.app:build"
    args = AppArgs(**application.args)
    assert args.num_ingresses == 3
    assert {override.name for override in application.deployments} == {"Ingress"}


def test_a_job_leaves_out_what_ray_would_refuse_to_upload() -> None:
    excludes = _read(ROOT / "deploy" / "job.yaml")["excludes"]
    assert {".git", "/.venv", "/runs"} <= set(excludes)
