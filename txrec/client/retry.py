"""Retries of calls to the HTTP API: attempts, waits with full jitter, and the decoded reply or its error.

Waits: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

import random
from collections.abc import Generator
from dataclasses import dataclass

import httpx

from txrec.client.endpoints import Json
from txrec.errors import TxrecError

Outcome = httpx.Response | httpx.TransportError
"""Outcome of one attempt."""
RETRIED_STATUS = frozenset({429, 502, 503, 504})


class ApiError(TxrecError):
    """The server refused a request, or could not be reached.

    Attributes:
        status: HTTP status, 0 where there was no answer.
        field: the offending field, if one is to blame.
        request_id: finds the request in the server's log.
    """

    def __init__(self, status: int, message: str, field: str | None = None, request_id: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.status = status
        self.field = field
        self.request_id = request_id


@dataclass(frozen=True)
class Retry:
    """Retry policy: attempts and waits.

    Attributes:
        attempts: calls in all.
        first_wait_s: the first wait is random between zero and this; the bound doubles each time.
        max_wait_s: upper bound of every wait.
    """

    attempts: int = 4
    first_wait_s: float = 0.1
    max_wait_s: float = 5.0

    def wait_s(self, attempt: int, outcome: Outcome, chance: float) -> float | None:
        """Seconds until the next attempt, None = no other one.

        Args:
            attempt: attempts so far.
            outcome: of the last one.
            chance: uniform random number in [0, 1).
        """
        if attempt >= self.attempts:
            return None
        if isinstance(outcome, httpx.Response) and not _is_temporary(outcome):
            return None
        bound = min(self.max_wait_s, self.first_wait_s * 2.0 ** (attempt - 1))
        if isinstance(outcome, httpx.Response):
            named = outcome.headers.get("retry-after", "")
            if named.isdigit():  # jitter: callers do not return at the same moment
                return min(self.max_wait_s, float(named)) + chance * bound
        return chance * bound


def attempts(retry: Retry, once: bool) -> Generator[float, Outcome, Json]:
    """Protocol of one call, for both clients: yields the seconds to wait before each attempt and is sent its outcome.

    Returns:
        The decoded reply.

    Raises:
        ApiError: the last attempt failed.
    """
    attempt, wait_s = 0, 0.0
    while True:
        outcome = yield wait_s
        attempt += 1
        chance = random.random()  # noqa: S311 - jitter is not a secret
        following = None if once else retry.wait_s(attempt, outcome, chance)
        if following is None:
            return _decoded(outcome)
        wait_s = following


def _is_temporary(outcome: httpx.Response) -> bool:
    """True where a later attempt may succeed: the server says so, or a proxy whose replica died answered a bare 500."""
    bare = not outcome.headers.get("content-type", "").startswith("application/json")
    return outcome.status_code in RETRIED_STATUS or (outcome.status_code == 500 and bare)


def _decoded(outcome: Outcome) -> Json:
    """The reply's body.

    Raises:
        ApiError: the server refused, or there was no answer.
    """
    if isinstance(outcome, httpx.TransportError):
        raise ApiError(0, f"no answer from the server: {outcome or type(outcome).__name__}") from outcome
    if outcome.is_success:
        reply: Json = outcome.json()
        return reply
    try:
        body = outcome.json()
        problem = body["error"]
        raise ApiError(outcome.status_code, problem["message"], problem["field"], body["request_id"])
    except (ValueError, KeyError, TypeError):
        raise ApiError(outcome.status_code, f"HTTP {outcome.status_code}: {outcome.text[:200]}") from None
