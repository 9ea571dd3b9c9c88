"""Fork server of Ray's workers in tests: one process imports torch and Ray once, each worker is a fork of it.

    python -m tests.worker_server SOCKET

The raylet starts `tests/worker_client.py` in place of Ray's setup_worker.py. That hands its arguments, environment and
standard streams over the socket and ends; a fork runs Ray's worker with them. A worker with an interpreter of its own
takes some four seconds of a processor for imports.

Ray's library reads a few variables when it is loaded, the job among them: a template per job, a fork too, imports Ray
and forks the workers. Not imported are Polars, which starts threads that a fork lacks, the project's modules, which
import it, and the parts of Ray that draw random ids when they are imported: all forks would draw the same ones next.
"""

import argparse
import gc
import importlib
import json
import os
import runpy
import shlex
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

READY = "ready"
_MODULES = (
    "torch",
    "pandas",
    "pyarrow.parquet",
    "scipy.sparse",
    "faiss",
    "tokenizers",
    "rapidfuzz",
    "jinja2",
    "fastapi.openapi.models",
    "jsonschema",
    "grpc",
    "aiohttp",
    "uvicorn",
)
_RAY_MODULES = ("ray._private.workers.default_worker", "ray._private.runtime_env.context")
_OF_A_JOB = ("RAY_JOB_ID", "RAY_RAYLET_PID")
_MAX_BYTES = 1 << 18
"""Of a request; Linux sends no longer message."""


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


_SERVER_PATHS = frozenset(_python_path())


def main() -> None:
    """Forks a worker per request, until the process that started this one kills it."""
    _import(_MODULES)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the system reaps forks
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as server:
        server.bind(sys.argv[1])
        server.listen(64)
        print(READY, flush=True)  # noqa: T201
        template = _template(server)
    with template:
        arguments = _worker(template)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _run(arguments)


def _import(modules: Sequence[str]) -> None:
    for module in modules:
        importlib.import_module(module)
    if "polars" in sys.modules:
        raise RuntimeError("polars is imported, whose threads a fork lacks")
    gc.collect()
    gc.freeze()  # the collector of a fork leaves these objects alone, so that their pages stay shared


def _template(server: socket.socket) -> socket.socket:
    """Passes requests on to the template of their job; returns in each template, with the socket of its requests."""
    templates: dict[tuple[str | None, ...], socket.socket] = {}
    while True:
        connection, _ = server.accept()
        with connection:
            message, fds, _, _ = socket.recv_fds(connection, _MAX_BYTES, 3)
        environment = json.loads(message)["environment"]
        job = tuple(environment.get(name) for name in _OF_A_JOB)
        if job not in templates:
            templates[job], requests = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            if os.fork() == 0:
                for other in templates.values():
                    other.close()
                for fd in fds:
                    os.close(fd)
                _set_environment(environment)
                return requests
            requests.close()
        socket.send_fds(templates[job], [message], fds)
        for fd in fds:
            os.close(fd)


def _worker(requests: socket.socket) -> list[str]:
    """Forks a worker per request; returns in each of them, with its arguments."""
    _import(_RAY_MODULES)
    if _next_id() == _next_id():
        raise RuntimeError("an import has drawn an id of Ray: workers would give their tasks the same ids")
    while True:
        message, fds, _, _ = socket.recv_fds(requests, _MAX_BYTES, 3)
        if not message:  # the server has ended
            os._exit(0)
        child = os.fork() == 0
        for stream, fd in enumerate(fds):
            if child:
                os.dup2(fd, stream)
            os.close(fd)
        if child:
            os.setpgrp()  # Ray ends a worker together with its process group
            request = json.loads(message)
            os.chdir(request["folder"])
            _set_environment(request["environment"])
            arguments: list[str] = request["arguments"]
            return arguments


def _next_id() -> bytes:
    """The first id that a fork of this process draws."""
    import ray

    readable, writable = os.pipe()
    if os.fork() == 0:
        os.write(writable, ray.ObjectRef.from_random().binary())
        os._exit(0)
    os.close(writable)
    with os.fdopen(readable, "rb") as pipe:
        return pipe.read()


def _set_environment(environment: dict[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


def _run(arguments: list[str]) -> None:
    """Ray's worker with the arguments of Ray's setup_worker.py, in this process where it is to be a plain one."""
    from ray._private.runtime_env.context import RuntimeEnvContext
    from ray._private.utils import update_envs
    from ray.core.generated.common_pb2 import Language  # type: ignore[attr-defined]  # made at import

    parser = argparse.ArgumentParser()
    parser.add_argument("--serialized-runtime-env-context", default="{}")
    parser.add_argument("--language")
    options, sys.argv = parser.parse_known_args(arguments)
    context = RuntimeEnvContext.deserialize(options.serialized_runtime_env_context)
    variables, context.env_vars = context.env_vars, {}
    update_envs(variables)
    _enter_folder(context.command_prefix)
    if options.language != "PYTHON" or context.serialize() != RuntimeEnvContext().serialize():
        context.exec_worker(sys.argv, Language.Value(options.language))
    _set_search_path(str(Path(sys.argv[0]).parent))
    runpy.run_path(sys.argv[0], run_name="__main__")


def _enter_folder(command_prefix: list[str]) -> None:
    """Changes to the working folder of the worker's job, and takes that step out of the shell commands before it."""
    match command_prefix[:3]:
        case ["cd", folder, "&&"]:
            os.chdir("".join(shlex.split(folder)))
            del command_prefix[:3]


def _set_search_path(folder: str) -> None:
    """Paths of imports as in a new interpreter: the folder of its script, PYTHONPATH, and what is installed."""
    installed = [path for path in sys.path[1:] if path not in _SERVER_PATHS]
    sys.path[:] = [folder, *_python_path(), *installed]
    importlib.invalidate_caches()


if __name__ == "__main__":
    main()
