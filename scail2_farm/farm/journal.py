"""Logs as lines of JSON: when, who, what, and the facts that travelled in `extra`."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import TextIO

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonLine(logging.Formatter):
    """A record as one line: `at` (UTC, ISO 8601), `level`, `logger`, `message`, its facts, and a traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: fact for name, fact in vars(record).items() if name not in _OWN}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_as_json(stream: TextIO) -> None:
    """Everything this process logs from INFO up, on `stream`; to be called once, where a process begins."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLine())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
