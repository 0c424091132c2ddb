"""Differs: our own, and several of them in order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sampan.engine.extensions import Differ
from sampan.errors import Unimplemented
from sampan.model.descriptor import Descriptor
from sampan.model.mounts import Mount
from sampan.storage.content import Store
from sampan.storage.diff.compare import WalkingComparer
from sampan.storage.diff.layers import LayerApplier
from sampan.storage.workers import Runner

__all__ = ["Ordered", "Walking"]


class Walking:
    """Applies in confined workers, and compares by walking both trees."""

    def __init__(self, content: Store, runner: Runner) -> None:
        self.apply = LayerApplier(content, runner).apply
        self.compare = WalkingComparer(content).compare


class Ordered:
    """Asks the next one where one says Unimplemented, as containerd's diff service does."""

    def __init__(self, differs: Sequence[Differ]) -> None:
        self._differs = differs

    async def apply(
        self,
        descriptor: Descriptor,
        mounts: Sequence[Mount],
        *,
        sync: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Descriptor:
        last = Unimplemented(f"no differ applies {descriptor.media_type}")
        for one in self._differs:
            try:
                return await one.apply(descriptor, mounts, sync=sync, progress=progress)
            except Unimplemented as err:
                last = err
        raise last

    async def compare(
        self,
        lower: Sequence[Mount],
        upper: Sequence[Mount],
        *,
        media_type: str = "",
        ref: str = "",
        labels: Mapping[str, str] | None = None,
        source_date_epoch: int | None = None,
    ) -> Descriptor:
        last = Unimplemented(f"no differ makes {media_type}")
        for one in self._differs:
            try:
                return await one.compare(
                    lower,
                    upper,
                    media_type=media_type,
                    ref=ref,
                    labels=labels,
                    source_date_epoch=source_date_epoch,
                )
            except Unimplemented as err:
                last = err
        raise last
