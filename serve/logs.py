"""The log of the three deployments: JSON lines on standard error, each with the ids of the requests that it concerns.

A line says who asked for what and how it went: never a body, a key or a query, which are the shop's and its users' own.
"""

import json
import logging
import sys
from collections.abc import Iterable
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

NAME = "txrec.serve"
REQUEST_IDS: ContextVar[tuple[str, ...]] = ContextVar("request_ids", default=())
"""Of the requests that are being answered: one in the ingress, a batch behind it."""

log = logging.getLogger(NAME)


def concern(request_ids: Iterable[str]) -> None:
    """Puts these ids on all lines that follow in this asyncio task and in what it starts."""
    REQUEST_IDS.set(tuple(request_ids))


class JsonLines(logging.Formatter):
    """One JSON object a record: time, level, logger, deployment, request id, message, and what is given as `extra`.

    A line that concerns several requests has `request_ids` in place of `request_id`; one that concerns none has null.
    """

    _PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

    def __init__(self, deployment: str = "") -> None:
        """Takes the name that every line says it comes from."""
        super().__init__()
        self._deployment = deployment

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        ids = REQUEST_IDS.get()
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "deployment": self._deployment,
            **({"request_ids": ids} if len(ids) > 1 else {"request_id": next(iter(ids), None)}),
            "message": record.getMessage(),
        }
        fields |= {name: value for name, value in record.__dict__.items() if name not in self._PLAIN}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False, default=str)


def start(deployment: str) -> None:
    """Sends what this process logs to standard error: its own lines from INFO, those of libraries from WARNING.

    Ray Serve's lines are among them: its own handler keeps a thousand of them back, and in its throughput mode it turns
    `sys.stderr` into lines of level INFO that nobody sees, at the price of a stack trace a line.
    """
    handler = logging.StreamHandler(sys.__stderr__)
    handler.setFormatter(JsonLines(deployment))
    for name in ("", "ray", "ray.serve"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.WARNING)
        logger.propagate = False
    log.setLevel(logging.INFO)
    logging.captureWarnings(True)
