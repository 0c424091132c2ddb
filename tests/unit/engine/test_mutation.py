"""Spec mutators: in order of id, and a failure never lets a container pass."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sampan import context
from sampan.engine.extensions import MutationContext
from sampan.engine.mutation import MutatedTasks, mutated
from sampan.errors import InvalidArgument, PermissionDenied, Unknown

WHERE = MutationContext("n", "c", "r")


class Append:
    def __init__(self, word: str) -> None:
        self.word = word

    async def mutate(self, spec: dict[str, Any], context: MutationContext) -> dict[str, Any]:
        assert context == WHERE
        return {**spec, "words": [*spec.get("words", []), self.word]}


class Raises:
    def __init__(self, error: Exception) -> None:
        self.error = error

    async def mutate(self, spec: dict[str, Any], context: MutationContext) -> dict[str, Any]:
        raise self.error


class Returns:
    async def mutate(self, spec: dict[str, Any], context: MutationContext) -> Any:
        return None


async def test_order() -> None:
    made = await mutated({"b": Append("2"), "a": Append("1")}, b'{"ociVersion": "1"}', WHERE)
    assert json.loads(made) == {"ociVersion": "1", "words": ["1", "2"]}


async def test_refusals() -> None:
    with pytest.raises(PermissionDenied, match="no"):
        await mutated({"a": Raises(PermissionDenied("no"))}, b"{}", WHERE)
    with pytest.raises(Unknown, match="spec mutator a failed on container c: oh"):
        await mutated({"a": Raises(RuntimeError("oh"))}, b"{}", WHERE)
    with pytest.raises(InvalidArgument, match="returned NoneType"):
        await mutated({"a": Returns()}, b"{}", WHERE)
    with pytest.raises(InvalidArgument, match="no JSON"):
        await mutated({"a": Append("1")}, b"{", WHERE)


async def test_tasks_get_what_was_made_of_the_spec() -> None:
    class Inner:
        async def create(self, id: str, *, spec: bytes, runtime: str, pod: str) -> int:
            assert (id, runtime, pod) == ("c", "r", "p")
            assert json.loads(spec)["words"] == ["1"]
            return 7

        async def start(self, id: str) -> int:
            return 8

    inner: Any = Inner()
    tasks = MutatedTasks(inner, {"a": Append("1")})
    with context.scope("n"):
        assert await tasks.create("c", spec=b"{}", runtime="r", pod="p") == 7
        assert await tasks.start("c") == 8
