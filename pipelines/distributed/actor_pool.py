"""Pool of Ray Data actors: one per core, each of which opens its files once and then answers parts of a job."""

from typing import Any

import ray
import ray.data


def num_cores() -> int:
    """Cores of the cluster."""
    cpus: float = ray.cluster_resources().get("CPU", 1)  # type: ignore[no-untyped-call]
    return int(cpus)


def num_actors(num_parts: int) -> int:
    """Actors that may run at once."""
    return max(1, min(num_parts, num_cores()))


def answers(
    actor: type, arguments: tuple[Any, ...], parts: list[dict[str, Any]], batch_format: str = "default"
) -> ray.data.Dataset:
    """The actors' answers, one part at a time; computed as they are read.

    Args:
        actor: class whose instances are called with a batch of one part.
        arguments: of its constructor.
        parts: rows that name the parts of the job.
        batch_format: of the batch, as Ray Data names it.
    """
    actors = num_actors(len(parts))
    return ray.data.from_items(parts, override_num_blocks=len(parts)).map_batches(
        actor,
        fn_constructor_args=arguments,
        batch_size=1,
        batch_format=batch_format,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors, initial_size=actors),  # all at once
        num_cpus=1,
    )
