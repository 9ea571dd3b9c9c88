"""Private functions of Ray that the server calls, all of them here, for the upgrade that changes them.

`ray` is capped in pyproject.toml for their sake; `tests/serve/deployment/test_ray_compat.py` fails where one is gone.
"""

from typing import Any

from ray.serve.handle import DeploymentHandle

HANDLE_OPTIONS: dict[str, Any] = {
    "_by_reference": False,
    "request_serialization": "pickle",
    "response_serialization": "pickle",
}
"""Options of a handle whose calls go by value over gRPC, for half the CPU time of calls by reference, whatever Ray
Serve was started with. Everything that travels is of txrec's own importable classes, so plain pickle does, in half
the time of cloudpickle."""


def method_by_value(handle: DeploymentHandle[Any], method: str) -> DeploymentHandle[Any]:
    """The handle of one method whose arguments and results travel by value."""
    try:
        return handle.options(method_name=method, **HANDLE_OPTIONS)
    except TypeError:  # a version of Ray without these options: slower, but right
        return handle.options(method_name=method)
