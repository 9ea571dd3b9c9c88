"""Client of the HTTP API, synchronous and asynchronous.

    with Client("http://127.0.0.1:8000") as shop:
        slate = shop.search(query="blue jeans", top_k=5)
        for item in slate["items"]:
            ...

A call that failed because the server was out of reach, overloaded or starting is tried again after a random wait that
grows (full jitter, https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/) or that the server names.
Every endpoint except the rollback and the start of an experiment is idempotent: reads change nothing, events carry ids,
and changes of products and models state the result.
"""

from txrec.client.clients import AsyncClient, Client
from txrec.client.endpoints import Endpoints, Json
from txrec.client.retry import ApiError, Retry

__all__ = ["ApiError", "AsyncClient", "Client", "Endpoints", "Json", "Retry"]
