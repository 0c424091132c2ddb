"""The namespace of an object's calls."""

from sampan import context
from sampan.sandbox.scope import scoped


class Thing:
    namespace = "mine"

    @scoped
    async def where(self, *, more: str = "") -> str:
        """Say where."""
        return context.namespace() + more


async def test_calls_act_in_the_objects_namespace() -> None:
    assert await Thing().where(more="!") == "mine!"
    assert context.namespace_or_none() is None
    with context.scope("other"):
        assert await Thing().where() == "mine"
        assert context.namespace() == "other"
    assert Thing.where.__doc__ == "Say where."
