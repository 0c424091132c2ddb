"""Public calls act in their client's namespace, whichever task or thread they come from."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from sampan import context

__all__ = ["scoped"]


class Scoped(Protocol):
    """What a decorated method's class must have."""

    @property
    def namespace(self) -> str: ...


S = TypeVar("S", bound=Scoped)
P = ParamSpec("P")
T = TypeVar("T")


def scoped(
    method: Callable[Concatenate[S, P], Awaitable[T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Run an async method with the namespace of its object."""

    @functools.wraps(method)
    async def inner(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        with context.scope(self.namespace):
            return await method(self, *args, **kwargs)

    return inner
