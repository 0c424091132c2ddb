"""The namespace and the lease of the request in hand.

`rpc` (or the embedded client) opens a scope around a request; `metadata` and `rpc` read it, and
nobody else: rooms between them pass neither on. Tasks and `concurrency.to_thread` inherit it.

    with scope("k8s.io", lease="pull-7f3a"):
        await images.put(image)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sampan.errors import FailedPrecondition

__all__ = ["DEFAULT_NAMESPACE", "lease", "namespace", "namespace_or_none", "scope"]

DEFAULT_NAMESPACE = "default"
"""What clients use when their user names none. Nothing in this package assumes it."""

_namespace: ContextVar[str | None] = ContextVar("sampan_namespace", default=None)
_lease: ContextVar[str | None] = ContextVar("sampan_lease", default=None)


def namespace() -> str:
    """Return the namespace of this request.

    Raises:
      FailedPrecondition: the request names none (containerd answers the same).
    """
    name = _namespace.get()
    if not name:
        raise FailedPrecondition("namespace is required: none is set for this request")
    return name


def namespace_or_none() -> str | None:
    """Return the namespace of this request, or None where a request may do without."""
    return _namespace.get() or None


def lease() -> str | None:
    """Return the lease that what this request creates shall belong to, if any."""
    return _lease.get() or None


@contextmanager
def scope(namespace: str | None = None, *, lease: str | None = None) -> Iterator[None]:
    """Set namespace and lease inside the block; None leaves the outer value, "" removes it."""
    tokens = []
    if namespace is not None:
        tokens.append((_namespace, _namespace.set(namespace)))
    if lease is not None:
        tokens.append((_lease, _lease.set(lease)))
    try:
        yield
    finally:
        for variable, token in reversed(tokens):
            variable.reset(token)
