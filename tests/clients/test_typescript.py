"""TypeScript client: it compiles, works against a running server, and is typed by the API as it is now."""

import os
import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

from serve.ingress import create_app
from serve.local_service import LocalService
from serve.types import Model
from tests.clients.servers import listening
from tests.documents import ROOT
from tests.services import absent
from txrec.recommender.recommender import Recommender

pytestmark = [pytest.mark.server, pytest.mark.slow]

FOLDER = ROOT / "clients" / "typescript"


@pytest.fixture(scope="module")
def packages() -> Path:
    """The client's folder with its packages installed."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        absent("Node.js (node, npm)")
    if not (FOLDER / "node_modules" / ".package-lock.json").is_file():
        absent("the client's packages (npm ci --prefix clients/typescript)")
    return FOLDER


def run(folder: Path, *command: str, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **environment}, capture_output=True, text=True, check=False, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_types_are_those_of_the_api_as_it_is_now(packages: Path, tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_text(runpy.run_path(str(FOLDER / "openapi.py"))["document"](), encoding="utf-8")
    generated = tmp_path / "schema.ts"
    run(packages, "npx", "openapi-typescript", str(tmp_path / "openapi.json"), "--output", str(generated))
    current = (FOLDER / "src" / "schema.ts").read_text(encoding="utf-8")
    assert generated.read_text(encoding="utf-8") == current, "run `make typescript` and commit src/schema.ts"


def test_the_client_compiles_and_talks_to_a_running_server(packages: Path, tiny_bundle: Path) -> None:
    run(packages, "npm", "run", "build")
    with listening(create_app(LocalService(Recommender.open(tiny_bundle), Model("v1")))) as url:
        assert "# fail 0" in run(packages, "node", "--test", "--test-reporter=tap", "test/", TXREC_URL=url)
