"""The image and the compose file name files, ports, settings and versions that exist, and nothing listens widely."""

import re
import tomllib
from typing import Any

import yaml

from tests.documents import ROOT
from txrec.config_loader import load

DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))


def test_the_image_copies_files_that_exist_and_that_the_context_holds() -> None:
    names = [
        name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE) for name in line.split()
    ]
    allowed = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert len(names) > 5
    assert [name for name in names if not (ROOT / name).exists()] == []
    assert [name for name in names if f"!{name}" not in allowed] == []


def test_the_image_has_the_python_version_and_the_extras_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    version = (ROOT / ".python-version").read_text(encoding="utf-8").strip()
    assert set(re.findall(r"^FROM python:([\d.]+)-slim", DOCKERFILE, re.MULTILINE)) == {version}
    extras = re.findall(r"'\.\[([\w,]+)\]'", DOCKERFILE)[0].split(",")
    assert set(extras) <= set(project["optional-dependencies"])
    assert "USER txrec" in DOCKERFILE


def test_mounted_files_exist_and_ports_are_published_on_loopback_alone() -> None:
    for name, service in COMPOSE["services"].items():
        for volume in service.get("volumes", []):
            source = volume.rpartition(":/")[0]
            if "${" in source:
                continue  # a file of the operator
            if source.startswith("."):
                assert (DEPLOY / source).exists() or source == "../runs", f"{name}: {source}"
            else:
                assert source in COMPOSE["volumes"], f"{name}: {source}"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_the_servers_settings_are_settings_and_prometheus_reads_its_port() -> None:
    server = COMPOSE["services"]["server"]
    command, _, *overrides = server["command"]
    assert command == "serve"
    config = load(ROOT / "configs" / "demo.toml", overrides)
    assert config.serve.state.startswith("redis://redis:")
    targets = yaml.safe_load((DEPLOY / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"][0]
    assert targets["static_configs"] == [{"targets": [f"server:{config.serve.port}"]}]
    assert f"EXPOSE {config.serve.port}" in DOCKERFILE


def test_secrets_come_from_the_environment() -> None:
    environments = [service.get("environment", {}) for service in COMPOSE["services"].values()]
    values = {name: value for environment in environments for name, value in environment.items()}
    assert set(values) == {"TXREC_API_KEYS", "GF_SECURITY_ADMIN_PASSWORD"}
    assert all(re.match(r"\$\{\w+:\?", value) for value in values.values())
