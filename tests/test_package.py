"""The wheel: what is in it, and that it works in an environment of its own."""

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from tests.documents import ROOT
from txrec import __version__

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the checkout, without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    _copy_sources(source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(source)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel alone; its dependencies are those that this Python has, linked by a .pth file."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    site = next(folder.glob("lib/python*/site-packages"))
    install = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--quiet"]
    subprocess.run([*install, "--no-deps", "--no-index", str(wheel)], check=True)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return folder


def _copy_sources(folder: Path) -> None:
    """The files under version control that a wheel is built from, so that no build output lands in the checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    kept = ("txrec", "pipelines", "serve", "pyproject.toml", "README.md", "LICENSE")
    for name in filter(None, listed.split("\0")):
        if name.split("/")[0] in kept and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())


def test_the_wheel_holds_the_three_packages_their_data_the_license_and_the_version(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = [name for name in names if name.endswith(".dist-info/METADATA")]
        text = archive.read(metadata).decode()
    for package in ("txrec", "pipelines", "serve"):
        assert {f"{package}/__init__.py", f"{package}/py.typed"} <= names
        code = {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")}
        assert code <= names
    templates = {path.relative_to(ROOT).as_posix() for path in (ROOT / "txrec").rglob("*.j2")}
    assert templates <= names
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "serve").rglob("*.css")} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not any(name.startswith(("tests", "bench", "docs")) for name in names)
    assert f"Version: {__version__}\n" in text
    assert "License-Expression: Apache-2.0\n" in text


def test_the_installed_command_prints_its_help_and_its_version(environment: Path, tmp_path: Path) -> None:
    txrec = str(environment / "bin" / "txrec")
    for option, expected in (("--help", "Usage: txrec"), ("--version", f"txrec {__version__}")):
        done = subprocess.run([txrec, option], cwd=tmp_path, env={}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout


def test_the_installed_packages_are_those_of_the_wheel(environment: Path, tmp_path: Path) -> None:
    python = str(environment / "bin" / "python")
    code = "import txrec, pipelines, serve; print(txrec.__file__, pipelines.__file__, serve.__file__)"
    done = subprocess.run([python, "-c", code], cwd=tmp_path, env={}, capture_output=True, text=True, check=True)
    assert all(file.startswith(str(environment)) for file in done.stdout.split())
