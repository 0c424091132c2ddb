"""Users by name or number, as the container's own /etc/passwd and /etc/group know them.

These files are content: they are opened inside the root by fd (no link leads out), read to a cap,
and their numbers are parsed as digits in range, never by bare int() (CVE-2024-40635).
"""

from __future__ import annotations

import os
from typing import Final

from sampan.errors import InvalidArgument, ResourceExhausted
from sampan.linux.paths import open_in_root
from sampan.model.runtime.process import User

__all__ = ["group_ids", "number", "resolve"]

_MAX_BYTES: Final = 1 << 20
_MAX_ID: Final = (1 << 31) - 1


def number(text: str, what: str) -> int | None:
    """Return the id that `text` writes in digits, or None if it is a name.

    Raises:
      InvalidArgument: digits, but more than an id can be.
    """
    if not (text.isascii() and text.isdigit()):
        return None
    if len(text) > 10 or int(text) > _MAX_ID:
        raise InvalidArgument(f"{what} {text} is larger than {_MAX_ID}")
    return int(text)


def resolve(user: str, root_fd: int) -> User:
    """Return the ids of `user`, `user:group`, as ids or names, in the root at `root_fd` (-1: none).

    Raises:
      InvalidArgument: no such user or group, or a number out of range.
      ResourceExhausted: the root's passwd or group file is absurdly large.
    """
    name, colon, group = user.partition(":")
    if not name or (colon and not group):
        raise InvalidArgument(f"user {user!r} is not USER or USER:GROUP")
    passwd, groups = _rows(root_fd, "etc/passwd"), _rows(root_fd, "etc/group")
    uid = number(name, "user id")
    row = next(
        (r for r in passwd if (r[0] == name if uid is None else _id(r, 2) == uid)),
        None,
    )
    if uid is None:
        uid = _id(row, 2) if row else None
        if uid is None:
            raise InvalidArgument(f"no user {name!r} in the container's /etc/passwd")
    gid = (_id(row, 3) if row else None) or 0
    if group:
        return User(uid=uid, gid=_group(group, groups))
    login = row[0] if row else ""
    more = tuple(
        sorted(
            other
            for r in groups
            if login and len(r) > 3 and login in r[3].split(",")
            if (other := _id(r, 2)) is not None and other != gid
        )
    )
    return User(uid=uid, gid=gid, additional_gids=more)


def group_ids(names: tuple[str, ...], root_fd: int) -> tuple[int, ...]:
    """Return the ids of groups, given as names or numbers, in the root at `root_fd` (-1: none).

    Raises:
      InvalidArgument: no such group, or a number out of range.
    """
    groups = _rows(root_fd, "etc/group")
    return tuple(_group(name, groups) for name in names)


def _group(group: str, groups: list[list[str]]) -> int:
    gid = number(group, "group id")
    if gid is None:
        gid = next((_id(row, 2) for row in groups if row[0] == group), None)
    if gid is None:
        raise InvalidArgument(f"no group {group!r} in the container's /etc/group")
    return gid


def _id(row: list[str], column: int) -> int | None:
    if len(row) <= column:
        return None
    text = row[column]
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) > _MAX_ID:
        return None
    return int(text)


def _rows(root_fd: int, path: str) -> list[list[str]]:
    if root_fd < 0:
        return []
    try:
        fd = open_in_root(root_fd, path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return []
    with open(fd, "rb") as file:
        data = file.read(_MAX_BYTES + 1)
    if len(data) > _MAX_BYTES:
        raise ResourceExhausted(f"the container's /{path} is larger than {_MAX_BYTES} bytes")
    return [line.split(":") for line in data.decode("utf-8", "surrogateescape").split("\n") if line]
