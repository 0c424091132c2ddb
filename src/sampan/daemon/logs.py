"""The daemon's log: text for people, JSON for machines, both with namespace and container.

    2026-11-21T07:12:03.412Z INFO sampan.runtime.tasks: task exited: container=c1 namespace=default

    {"time": "2026-11-21T07:12:03.412Z", "level": "info", "logger": "sampan.runtime.tasks",
     "msg": "task exited", "container": "c1", "namespace": "default"}

Messages end in `key=%s` by convention; in JSON these become fields. The namespace is that of the
request in hand, unless the message names one.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Callable
from typing import Any, Final, TextIO

from sampan import context

__all__ = ["JsonFormatter", "TextFormatter", "configure"]

_PLACE: Final = re.compile(r"%(?:%|[-#0 +]*\d*(?:\.\d+)?[a-zA-Z])")
_PAIR: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=$", re.ASCII)
_SEPARATORS: Final = " :,;"

trace_ids: Callable[[], dict[str, str]] | None = None
"""Set by `tracing`: what ties a line to its span."""


def configure(level: str, format: str, stream: TextIO | None = None) -> None:
    """Log to stderr, or `stream`, in this format, from this level on; again to change either."""
    formatter = JsonFormatter() if format == "json" else TextFormatter()
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # One line a header: nobody who asks for our debug messages means these.
    logging.getLogger("hpack").setLevel(logging.INFO)


class TextFormatter(logging.Formatter):
    """One line a message, and the lines of a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        message = record.getMessage()
        where = context.namespace_or_none()
        if where and "namespace=" not in message:
            message = f"{message} namespace={where}"
        head = f"{_time(record)} {record.levelname} {record.name}: "
        return head + message + _traceback(self, record)


class JsonFormatter(logging.Formatter):
    """One object a message."""

    def format(self, record: logging.LogRecord) -> str:
        text, found = _fields(record)
        line: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "msg": text,
        }
        line |= {key: value for key, value in found.items() if key not in line}
        where = context.namespace_or_none()
        if where:
            line.setdefault("namespace", where)
        if trace_ids is not None:
            line |= trace_ids()
        if record.exc_info or record.exc_text or record.stack_info:
            line["error"] = _traceback(self, record).strip()
        return json.dumps(line, ensure_ascii=False, default=str)


def _time(record: logging.LogRecord) -> str:
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    return f"{stamp}.{int(record.msecs):03d}Z"


def _traceback(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    text = ""
    if record.exc_info:
        text += "\n" + formatter.formatException(record.exc_info)
    if record.stack_info:
        text += "\n" + record.stack_info
    return text


def _fields(record: logging.LogRecord) -> tuple[str, dict[str, Any]]:
    """Split a record into its sentence and the pairs `key=%s` of its template."""
    template, args = str(record.msg), record.args
    if not isinstance(args, tuple) or not args:
        return record.getMessage(), {}
    pairs: dict[str, Any] = {}
    text, at, number = [], 0, 0
    for match in _PLACE.finditer(template):
        if match[0] == "%%":
            continue
        if number >= len(args):
            return record.getMessage(), {}
        before = template[at : match.start()]
        key = _PAIR.search(before)
        if key is not None:
            text.append(before[: key.start()].rstrip(_SEPARATORS))
            pairs[key[1]] = _plain(args[number])
        else:
            text.append((before + match[0]) % (args[number],))
        number += 1
        at = match.end()
    text.append(template[at:].replace("%%", "%"))
    return "".join(text).strip(), pairs


def _plain(value: object) -> object:
    return value if isinstance(value, bool | int | float | str) else str(value)
