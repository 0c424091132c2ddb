"""Heads of HTTP requests: what we take from them, and what we refuse."""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sampan.cri.streaming.head import BadRequest, parse_head, response, switching


def test_names_are_lower_case_and_values_join() -> None:
    raw = b"GET /exec/T?x=1 HTTP/1.1\r\nUpgrade: websocket\r\nConnection: keep-alive\r\n"
    head = parse_head(raw + b"CONNECTION: Upgrade\r\n\r\n")
    assert (head.method, head.path) == ("GET", "/exec/T")
    assert head.items("connection") == ["keep-alive", "Upgrade"]
    assert head.upgrades_to("WebSocket")
    assert not head.upgrades_to("SPDY/3.1")
    assert head.items("missing") == []


@pytest.mark.parametrize(
    "raw",
    [
        b"GET /\r\n\r\n",
        b"GET / HTTP/2\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\n folded: line\r\n\r\n",
        b"GET / HTTP/1.1\r\nname : value\r\n\r\n",
        b"GET http://[::1/ HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 300 + b"\r\n",
    ],
)
def test_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_head(raw)


@given(st.binary(max_size=100))
def test_any_bytes(raw: bytes) -> None:
    with suppress(BadRequest):
        assert parse_head(raw + b"\r\n\r\n").method is not None


def test_answers() -> None:
    refused = response(HTTPStatus.NOT_FOUND, "no such thing")
    assert refused.startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert b"Content-Length: 14\r\n" in refused
    assert refused.endswith(b"\r\n\r\nno such thing\n")
    upgraded = switching("SPDY/3.1", {"X-Stream-Protocol-Version": "v4"})
    assert upgraded.startswith(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n")
