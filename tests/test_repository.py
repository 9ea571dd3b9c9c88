"""The repository's own set-up: workflow, hooks, pinned versions and Makefile agree with each other."""

import re
import subprocess
import tomllib
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from tests.documents import ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", MAKEFILE, flags=re.MULTILINE))
WORKFLOW: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())


def _pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if "==" in line]
    return {canonicalize_name(name): version for name, version in pairs}


def test_the_makefile_has_every_target_that_workflow_and_documents_name() -> None:
    texts = [path.read_text() for path in (ROOT / "CONTRIBUTING.md", ROOT / ".github" / "pull_request_template.md")]
    commands = re.findall(r"`make ([a-z -]+)`", "\n".join(texts))
    commands += [step["run"].removeprefix("make ") for step in _steps() if step.get("run", "").startswith("make ")]
    commands += re.findall(r"^make ([a-z -]+)$", (ROOT / ".ci" / "run").read_text(), flags=re.MULTILINE)
    named = {target for command in commands for target in command.split()}
    assert {"lint", "type", "test", "test-fast", "docs", "coverage"} <= named
    assert named <= TARGETS


def test_help_lists_every_target() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    words = set(re.findall(r"[a-z-]+", "\n".join(re.findall(r"^make ((?:[a-z-]+ )+)", listed, flags=re.MULTILINE))))
    assert TARGETS - {"help"} <= words


def _steps() -> list[dict[str, Any]]:
    return [step for job in WORKFLOW["jobs"].values() for step in job["steps"]]


def test_the_workflow_tests_every_python_version_that_the_package_promises() -> None:
    tested = WORKFLOW["jobs"]["test"]["strategy"]["matrix"]["python"]
    promised = [c.rpartition(":: ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert tested == promised
    allowed = SpecifierSet(PROJECT["requires-python"])
    minors = [f"3.{minor}" for minor in range(8, 20)]
    assert [minor for minor in minors if minor in allowed] == promised
    assert (ROOT / ".python-version").read_text().strip() in promised


def test_every_direct_dependency_is_pinned_within_its_range() -> None:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    pinned = _pinned()
    optional = {"mlflow-skinny"}  # imported only where `train.mlflow_uri` is set
    for text in (text for group in groups for text in group):
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        if name not in optional:
            assert name in pinned, f"constraints.txt lacks {name}"
            assert pinned[name] in requirement.specifier, f"{name} {pinned[name]} is outside {requirement.specifier}"


def test_hooks_run_programs_of_the_development_environment() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert {hook["id"] for hook in hooks} >= {"format", "lint", "layers", "tree"}
    for hook in hooks:
        assert (ROOT / hook["entry"].split()[0]).exists(), hook["entry"]
