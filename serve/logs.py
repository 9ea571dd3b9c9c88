"""The server's log: JSON lines on standard error, each with the id of the request that it belongs to.

A line says who asked for what and how it went: never a body, a key or a query, which are the shop's and its users' own.
"""

import json
import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any

NAME = "txrec.serve"
REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""Of the request that is being answered."""

log = logging.getLogger(NAME)


class JsonLines(logging.Formatter):
    """One JSON object a record: time, level, logger, request id, message, and what the caller adds as `extra`."""

    _PLAIN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "request_id": REQUEST_ID.get(),
            "message": record.getMessage(),
        }
        fields |= {name: value for name, value in record.__dict__.items() if name not in self._PLAIN}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False, default=str)


def start(level: int = logging.INFO) -> None:
    """Sends what this process logs, and what its HTTP server complains of, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for logger, least in ((log, level), (logging.getLogger("uvicorn.error"), logging.WARNING)):
        logger.handlers = [handler]
        logger.setLevel(least)
        logger.propagate = False
