"""JSON logging of the deployments: lines on standard error, each with the ids of its requests.

A line holds method, route, status and duration: never a body, a key or a query, which are private.
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
"""Ids of the requests that are being answered: one in the ingress, a batch behind it."""

log = logging.getLogger(NAME)


def bind_request_ids(request_ids: Iterable[str]) -> None:
    """Binds request ids to the log lines of this asyncio task and of the tasks that it starts."""
    REQUEST_IDS.set(tuple(request_ids))


class JsonLines(logging.Formatter):
    """One JSON object a record: time, level, logger, deployment, request id, message, and the fields of `extra`.

    A line of several requests has `request_ids` instead of `request_id`; a line of no request has null.
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
    """Sends the log of this process to standard error: its own lines from INFO, those of libraries from WARNING.

    Ray Serve's lines are among them: its own handler keeps a thousand of them back, and in its throughput mode it turns
    `sys.stderr` into lines of level INFO that are not shown, at the price of a stack trace per line.
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
