"""Spec mutators before a task: what they make of the spec is what runs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from sampan import context
from sampan.engine.extensions import MutationContext, SpecMutator
from sampan.errors import InvalidArgument, SampanError, Unknown

if TYPE_CHECKING:
    from sampan.runtime import Tasks

__all__ = ["MutatedTasks", "mutated"]


async def mutated(
    mutators: Mapping[str, SpecMutator], spec: bytes, where: MutationContext
) -> bytes:
    """Return the spec that the mutators make of `spec`, in order of their ids.

    Raises:
      InvalidArgument: the spec is no JSON object, or a mutator's is none.
      SampanError: a mutator refuses the container.
      Unknown: a mutator failed; a container that policy could not see does not run.
    """
    try:
        value = json.loads(spec)
    except ValueError as err:
        raise InvalidArgument(f"spec of container {where.container} is no JSON: {err}") from err
    for id in sorted(mutators):  # noqa: A001
        try:
            value = await mutators[id].mutate(value, where)
        except SampanError:
            raise
        except Exception as err:  # the edge between us and third parties
            raise Unknown(
                f"spec mutator {id} failed on container {where.container}: {err}"
            ) from err
        if not isinstance(value, dict):
            raise InvalidArgument(f"spec mutator {id} returned {type(value).__name__}, no spec")
    return json.dumps(value).encode()


class MutatedTasks:
    """Tasks whose specs go through mutators; everything else is the inner one's."""

    def __init__(self, inner: Tasks, mutators: Mapping[str, SpecMutator]) -> None:
        self._inner = inner
        self._mutators = mutators

    async def create(self, id: str, *, spec: bytes, runtime: str = "", **rest: Any) -> int:
        """Create a task; see `Tasks.create`."""
        where = MutationContext(context.namespace(), id, runtime)
        spec = await mutated(self._mutators, spec, where)
        return await self._inner.create(id, spec=spec, runtime=runtime, **rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)
