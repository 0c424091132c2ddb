"""Log lines: sentences for people, fields for machines."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from sampan import context
from sampan.daemon import logs


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    text = io.StringIO()
    root = logging.getLogger()
    before = (root.level, root.handlers[:])
    yield text
    for handler in root.handlers[:]:
        if handler not in before[1]:
            root.removeHandler(handler)
    root.setLevel(before[0])
    root.handlers[:] = before[1]


def last(lines: io.StringIO) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(lines.getvalue().splitlines()[-1])
    return found


def test_pairs_become_fields(lines: io.StringIO) -> None:
    logs.configure("info", "json", lines)
    with context.scope("k8s.io"):
        logging.getLogger("x.y").info("task exited: container=%s status=%d", "c1", 7)
    line = last(lines)
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "info",
        "logger": "x.y",
        "msg": "task exited",
        "container": "c1",
        "status": 7,
        "namespace": "k8s.io",
    }


def test_the_message_names_the_namespace_itself(lines: io.StringIO) -> None:
    logs.configure("info", "json", lines)
    with context.scope("outer"):
        logging.getLogger("x").warning("gone: namespace=%s: %s", "inner", ValueError("why"))
    line = last(lines)
    assert (line["namespace"], line["msg"]) == ("inner", "gone: why")


@pytest.mark.parametrize(
    ("message", "args", "expected"),
    [
        ("100%% of %s", ("x",), "100% of x"),
        ("plain 100%", (), "plain 100%"),
        ("%(key)s", ({"key": "v"},), "v"),
        ("line\nbreak %s", ('"q"',), 'line\nbreak "q"'),
    ],
)
def test_sentences_stay_whole(
    lines: io.StringIO, message: str, args: tuple[Any, ...], expected: str
) -> None:
    logs.configure("info", "json", lines)
    logging.getLogger("x").info(message, *args)
    assert last(lines)["msg"] == expected


def test_tracebacks_stay_in_one_object(lines: io.StringIO) -> None:
    logs.configure("info", "json", lines)
    try:
        int("broken")
    except ValueError:
        logging.getLogger("x").exception("failed: container=%s", "c1")
    assert len(lines.getvalue().splitlines()) == 1
    assert "ValueError: invalid literal" in last(lines)["error"]


def test_text(lines: io.StringIO) -> None:
    logs.configure("info", "text", lines)
    logging.getLogger("x").debug("not at this level")
    with context.scope("n1"):
        logging.getLogger("x").info("started: container=%s", "c1")
    assert lines.getvalue().endswith(" INFO x: started: container=c1 namespace=n1\n")
    assert len(lines.getvalue().splitlines()) == 1


def test_configured_twice_logs_once(lines: io.StringIO) -> None:
    logs.configure("info", "text", lines)
    logs.configure("info", "json", lines)
    logging.getLogger("x").info("once")
    assert len(lines.getvalue().splitlines()) == 1
