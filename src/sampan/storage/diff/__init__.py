"""Differences: an archive applied to mounts, and two sets of mounts compared into an archive.

    applied  = await applier.apply(descriptor, mounts)       # applied.digest is the DiffID
    layer    = await comparer.compare(lower, upper)          # a blob in the content store

Both take what a snapshotter's `prepare`, `view` or `mounts` returned, and mount nothing in the
caller's namespace. The archive is hostile: `apply` parses it in a confined worker, and leaves a
target whose content is unspecified when it fails. Whether the DiffID is the right one is for the
caller to compare: it is hashed on the way from exactly the bytes that were applied.

Source: containerd core/diff/diff.go; image-spec layer.md for whiteouts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    # Workers import modules beside this one, and shall not load msgspec for an annotation.
    from sampan.model.descriptor import Descriptor
    from sampan.model.mounts import Mount

__all__ = ["Applier", "Comparer"]


@runtime_checkable
class Applier(Protocol):
    """Puts a layer onto mounts."""

    async def apply(
        self,
        descriptor: Descriptor,
        mounts: Sequence[Mount],
        *,
        sync: bool = False,
        progress: Callable[[int], None] | None = None,
    ) -> Descriptor:
        """Apply the blob that `descriptor` names; return what it is uncompressed.

        Args:
          descriptor: A layer in the content store: gzip, zstd or plain tar.
          mounts: Where to, as a snapshotter returned them.
          sync: Write the target's file system back to disk before returning.
          progress: Called with the compressed bytes consumed so far.

        Returns:
          A plain tar's media type, its size, and the DiffID as digest.

        Raises:
          NotFound: no such blob.
          InvalidArgument: not a layer's media type, or the archive is malformed or hostile.
          ResourceExhausted: a cap, or the disk, is used up.
        """
        ...


@runtime_checkable
class Comparer(Protocol):
    """Makes a layer of what changed."""

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
        """Write what `upper` has, lacks or has otherwise than `lower` to the content store.

        The same trees give the same bytes: entries are sorted, compressors are told no time.

        Args:
          lower: The parent, read-only; empty for none.
          upper: The changed tree.
          media_type: The layer's type; empty is OCI gzip.
          ref: The ingest's ref; empty makes one.
          labels: For the blob; `containerd.io/uncompressed` is added with the DiffID.
          source_date_epoch: Latest modification time to record, in seconds; None is any.

        Returns:
          The blob, with the DiffID as annotation `containerd.io/uncompressed`.
        """
        ...
