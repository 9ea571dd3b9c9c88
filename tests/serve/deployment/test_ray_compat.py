"""Private functions of Ray that the server calls are in the installed version; an upgrade without one fails here."""

import inspect
from types import SimpleNamespace
from typing import Any

from ray.serve.handle import DeploymentHandle

from serve.deployment.ray_compat import HANDLE_OPTIONS, method_by_value


def test_the_installed_ray_takes_every_private_option_of_a_handle() -> None:
    parameters = inspect.signature(DeploymentHandle.options).parameters
    assert set(HANDLE_OPTIONS) <= set(parameters)


def test_a_handle_without_the_options_still_gives_the_method() -> None:
    def options(method_name: str) -> Any:
        return f"handle of {method_name}"

    handle: Any = SimpleNamespace(options=options)
    assert method_by_value(handle, "rank") == "handle of rank"
