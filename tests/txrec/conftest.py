"""The library's tests run without Ray, and this makes sure of it; nor need it be there."""

import importlib.util

import pytest


@pytest.fixture(autouse=True)
def _no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    if importlib.util.find_spec("ray") is None:
        return

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("a unit test of the library must not start Ray")

    import ray

    monkeypatch.setattr(ray, "init", forbidden)
