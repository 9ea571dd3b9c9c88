"""CUDA graphs on the CPU: operations are recorded as they run and run again into the same tensors on replay.

Like a graph, a recording knows tensors and not values: what a step reads from other tensors than its inputs, or what
Python computes from them, does not change on replay. Unlike one, it runs while it is recorded, so that the first
replay has nothing left to do.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

HOST_READ = torch.ops.aten._local_scalar_dense.default


class Recording(TorchDispatchMode):
    """Operations with the tensors that they read and wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func is not HOST_READ, "the host reads a value while a graph is recorded"
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def run(self) -> None:
        """Runs the operations again; their results go where they went before."""
        for func, args, kwargs, result in self.calls:
            for old, new in zip(tree_leaves(result), tree_leaves(func(*args, **kwargs)), strict=True):
                if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Graph:
    """As much of `torch.cuda.CUDAGraph` as is used."""

    recorded = 0
    """Graphs recorded since the test began."""

    def __init__(self) -> None:
        self.recording = Recording()
        self.replays = 0

    def replay(self) -> None:
        """Runs what was recorded."""
        if self.replays:
            self.recording.run()
        self.replays += 1


class Stream:
    """A stream of a device that does everything at once."""

    def wait_stream(self, _: "Stream") -> None:
        """Has nothing to wait for."""


@contextmanager
def _graph(graph: Graph, pool: object, stream: Stream, capture_error_mode: str) -> Iterator[None]:
    Graph.recorded += 1
    with graph.recording:
        yield


def _on(_: Stream) -> AbstractContextManager[None]:
    return nullcontext()


def install(monkeypatch: pytest.MonkeyPatch) -> type[Graph]:
    """Puts these graphs in the place of those of torch.cuda."""
    monkeypatch.setattr(Graph, "recorded", 0)
    replaced = {
        "Stream": Stream,
        "current_stream": Stream,
        "stream": _on,
        "graph": _graph,
        "graph_pool_handle": object,
        "CUDAGraph": Graph,
    }
    for name, value in replaced.items():
        monkeypatch.setattr(torch.cuda, name, value)
    return Graph
