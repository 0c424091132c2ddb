"""Names of namespaces, containers, leases and sandboxes: short, safe in a path and in a URL.

Source: containerd pkg/identifiers.
"""

from __future__ import annotations

import functools
import re
from typing import Final

from sampan.errors import InvalidArgument

__all__ = ["MAX_CHARS", "check"]

MAX_CHARS: Final = 76

_FORM: Final = re.compile(r"[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*", re.ASCII)


@functools.lru_cache(maxsize=4096)
def check(name: str, what: str = "identifier") -> str:
    """Return `name` if it is alphanumeric words joined by single `.`, `_` or `-`, at most 76 long.

    Raises:
      InvalidArgument: it is not; `what` says in the message what was to be named.
    """
    if not name:
        raise InvalidArgument(f"{what} must not be empty")
    if len(name) > MAX_CHARS:
        raise InvalidArgument(
            f"{what} {name!r} greater than maximum length ({MAX_CHARS} characters)"
        )
    if not _FORM.fullmatch(name):
        raise InvalidArgument(
            f"{what} {name!r} must match ^{_FORM.pattern}$: letters and digits,"
            " joined by single dots, dashes or underscores"
        )
    return name
