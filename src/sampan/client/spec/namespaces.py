"""`linux.namespaces`: new ones, the host's, or another container's."""

from __future__ import annotations

from typing import Final

from sampan.client.spec.request import Request
from sampan.errors import InvalidArgument
from sampan.model.runtime.linux import Namespace

__all__ = ["namespaces_of"]

_KINDS: Final = ("pid", "ipc", "uts", "cgroup")


def namespaces_of(request: Request) -> tuple[Namespace, ...]:
    """Return the namespaces; `mount` is always the container's own.

    Raises:
      InvalidArgument: a kind is unknown, or a value neither `host` nor a path.
    """
    for kind in request.namespaces:
        if kind not in _KINDS:
            raise InvalidArgument(f"namespace {kind!r} is none of {', '.join(_KINDS)}")
    chosen = {kind: request.namespaces.get(kind, "") for kind in _KINDS}
    chosen["network"] = "" if request.network == "none" else request.network
    found = [Namespace(type="mount")]
    for kind, where in chosen.items():
        if where and where != "host" and not where.startswith("/"):
            raise InvalidArgument(f"{kind} {where!r} is not there: use none, host or a network")
        if where != "host":
            found.append(Namespace(type=kind, path=where))
    return tuple(found)
