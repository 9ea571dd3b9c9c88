"""CUDA graphs of training steps: one launch per step instead of one per kernel.

A step of a small model is hundreds of kernels, each of which takes less time than its launch does. A graph is recorded
for every shape of batch and replayed with what changes copied in; batches come in few shapes for that
(`txrec.train.retrieval.examples`), and nothing in a step may depend on values that the host would have to read.
"""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor

from txrec.model.batch import Batch


class StepGraphs:
    """A function of a batch, recorded once a shape; its side effects are replayed as well."""

    def __init__(self, compute: Callable[[Batch], Tensor]) -> None:
        """Takes the function to record: it leaves no tensor behind that a later call frees or replaces."""
        self._compute = compute
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._recorded: dict[tuple[int, ...], _Recorded | None] = {}

    def __call__(self, batch: Batch) -> Tensor:
        """Result of `compute`; an earlier result for the same shape is overwritten."""
        outside = torch.cuda.current_stream()
        self._stream.wait_stream(outside)
        with torch.cuda.stream(self._stream):
            result = self._run(batch)
        outside.wait_stream(self._stream)
        return result

    def _run(self, batch: Batch) -> Tensor:
        shape = (*batch.item_idx.shape, *batch.query_vectors.shape)
        if shape not in self._recorded:  # the first step of a shape allocates the buffers of its recording
            self._recorded[shape] = None
            return self._compute(batch)
        recorded = self._recorded[shape] or self._record(batch)
        self._recorded[shape] = recorded
        return recorded.replay(batch)

    def _record(self, batch: Batch) -> "_Recorded":
        inputs = Batch(**{name: tensor.clone() for name, tensor in _changing(batch)}, query_vectors=batch.query_vectors)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            result = self._compute(inputs)
        return _Recorded(graph, inputs, result)


@dataclasses.dataclass(frozen=True, eq=False)
class _Recorded:
    graph: torch.cuda.CUDAGraph
    inputs: Batch
    result: Tensor

    def replay(self, batch: Batch) -> Tensor:
        for (_, own), (_, new) in zip(_changing(self.inputs), _changing(batch), strict=True):
            own.copy_(new)
        self.graph.replay()
        return self.result


def _changing(batch: Batch) -> list[tuple[str, Tensor]]:
    """All but the query vectors, which are the same tensor in every batch of a run."""
    names = [field.name for field in dataclasses.fields(batch) if field.name != "query_vectors"]
    return [(name, getattr(batch, name)) for name in names]
