"""The head of an HTTP/1.1 request, and the answers that are not a 101.

These servers see one request a connection: it is upgraded or refused, and never kept alive.

Source: RFC 9112.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import urlsplit

__all__ = ["HEAD_MAX_BYTES", "BadRequest", "Head", "parse_head", "response", "switching"]

HEAD_MAX_BYTES: Final = 64 << 10
_HEADERS_MAX: Final = 200


class BadRequest(Exception):
    """Not a request that we answer; `status` is what the client hears."""

    def __init__(self, text: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(text)
        self.status = status


class Head(NamedTuple):
    """Method, path without query, and headers: names in lower case, several values by commas."""

    method: str
    path: str
    headers: dict[str, str]

    def items(self, name: str) -> list[str]:
        """Return the comma-separated values of a header, without white space; [] if absent."""
        return [item for part in self.headers.get(name, "").split(",") if (item := part.strip())]

    def upgrades_to(self, protocol: str) -> bool:
        """Whether the client asks for `protocol` in Upgrade, and says so in Connection."""
        wanted = [item.lower() for item in self.items("upgrade")]
        connection = [item.lower() for item in self.items("connection")]
        return protocol.lower() in wanted and "upgrade" in connection


def parse_head(raw: bytes) -> Head:
    """Return the head in `raw`, which ends in an empty line.

    Raises:
      BadRequest: it is malformed.
    """
    lines = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise BadRequest("malformed request line")
    if len(lines) > _HEADERS_MAX:
        raise BadRequest("too many headers", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise BadRequest("malformed header")
        name, value = name.lower(), value.strip(" \t")
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    try:
        path = urlsplit(words[1]).path
    except ValueError as err:
        raise BadRequest("malformed target") from err
    return Head(words[0], path, headers)


def response(status: HTTPStatus, text: str, headers: dict[str, str] | None = None) -> bytes:
    """Return a whole answer that refuses, with one line of text."""
    body = f"{text}\n".encode()
    fields = {
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Length": str(len(body)),
        "X-Content-Type-Options": "nosniff",
        "Connection": "close",
        **(headers or {}),
    }
    return _head(status, fields) + body


def switching(protocol: str, headers: dict[str, str]) -> bytes:
    """Return the 101 after which `protocol` is spoken."""
    fields = {"Connection": "Upgrade", "Upgrade": protocol, **headers}
    return _head(HTTPStatus.SWITCHING_PROTOCOLS, fields)


def _head(status: HTTPStatus, fields: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status.value} {status.phrase}"]
    lines += [f"{name}: {value}" for name, value in fields.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
