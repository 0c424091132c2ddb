"""Where a stream goes, as containerd's clients write it."""

from __future__ import annotations

from sampan.errors import InvalidArgument

__all__ = ["parse", "unquote"]


def parse(uri: str) -> tuple[str, str, list[tuple[str, str]]]:
    """Return scheme, path and query of `uri`; a bare path is a fifo.

    Raises:
      InvalidArgument: an unknown scheme, or no absolute path.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        scheme, rest = "fifo", uri
    if scheme not in ("fifo", "file", "binary", "sampan-log"):
        raise InvalidArgument(f"unknown STDIO scheme {scheme!r} in {uri!r}")
    query: list[tuple[str, str]] = []
    path = rest
    if separator:
        path, _, raw = rest.partition("?")
        path = unquote(path)
        for pair in raw.split("&") if raw else ():
            key, _, value = pair.partition("=")
            query.append((unquote(key.replace("+", " ")), unquote(value.replace("+", " "))))
    if not path.startswith("/"):
        raise InvalidArgument(f"STDIO path {path!r} in {uri!r} is not absolute")
    return scheme, path, query


def unquote(text: str) -> str:
    """Undo percent encoding; what is no valid escape stays as it is."""
    if "%" not in text:
        return text
    first, *parts = text.encode().split(b"%")
    out = bytearray(first)
    for part in parts:
        try:
            out += bytes.fromhex(part[:2].decode()) + part[2:]
        except ValueError:
            out += b"%" + part
    return out.decode(errors="surrogateescape")
