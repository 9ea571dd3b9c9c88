"""`cluster.yaml` passes Ray's own schema check, offline."""

from pathlib import Path

import yaml

CLUSTER = Path(__file__).parent.parent / "cluster.yaml"


def test_rays_own_schema_accepts_the_cluster_file() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(yaml.safe_load(CLUSTER.read_text())))


def test_the_head_node_type_exists_and_gpu_workers_can_scale_up() -> None:
    config = yaml.safe_load(CLUSTER.read_text())
    types = config["available_node_types"]
    assert config["head_node_type"] in types
    workers = [node for name, node in types.items() if name != config["head_node_type"] and node["max_workers"] > 0]
    assert any(node["node_config"]["InstanceType"].startswith(("g", "p")) for node in workers)


def test_rays_dashboard_is_not_reachable_from_outside_the_head() -> None:
    config = yaml.safe_load(CLUSTER.read_text())
    start = " ".join(config["head_start_ray_commands"])
    assert "--dashboard-host=127.0.0.1" in start
    assert "RAY_AUTH_MODE=token" in start
