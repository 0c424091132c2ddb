"""Who has set what: a field of a container belongs to the first plugin that sets it.

A plugin may take a field over by removing it first (`-name`), which leaves it marked as `-plugin`:
then that plugin alone may set it again.

Source: containerd/nri pkg/api/owners.go.
"""

from __future__ import annotations

from sampan.api.nri.v1alpha1 import api_pb2 as pb
from sampan.errors import InvalidArgument

__all__ = ["Owners", "removal"]


def removal(key: str) -> tuple[str, bool]:
    """Return the key without its mark, and whether it was marked for removal by a leading `-`."""
    return (key[1:], True) if key.startswith("-") else (key, False)


class Owners:
    """Claims on the fields of containers, in the form that validators are shown."""

    def __init__(self) -> None:
        self.message = pb.OwningPlugins()

    def claim(self, container_id: str, field: int, plugin: str, key: str | None = None) -> None:
        """Make `plugin` the owner of a field, or of one entry of it.

        Raises:
          InvalidArgument: it belongs to another one; names both.
        """
        owners = self._table(container_id, field, key)
        place = field if key is None else key
        if place in owners:
            owner, cleared = removal(owners[place])
            if not (cleared and owner == plugin):
                what = pb.Field.Name(field)
                what += "" if key is None else f" {key!r}"
                raise InvalidArgument(
                    f"NRI plugins {plugin!r} and {owner!r} both tried to set {what} "
                    f"of container {container_id}"
                )
        owners[place] = plugin

    def clear(self, container_id: str, field: int, plugin: str, key: str | None = None) -> None:
        """Note that `plugin` has removed a field, and may set it."""
        self._table(container_id, field, key)[field if key is None else key] = f"-{plugin}"

    def add(self, container_id: str, field: int, plugin: str) -> None:
        """Note one more owner of a field that several may add to."""
        owners = self.message.owners[container_id].simple
        owners[field] = f"{owners[field]},{plugin}" if field in owners else plugin

    def owner(self, container_id: str, field: int) -> str:
        """Return the owner of a simple field; empty for none."""
        return self.message.owners[container_id].simple.get(field, "")

    def entries(self, container_id: str, field: int) -> dict[str, str]:
        """Return the owners of the entries of a field."""
        return dict(self.message.owners[container_id].compound[field].owners)

    def _table(self, container_id: str, field: int, key: str | None):  # type: ignore[no-untyped-def]  # noqa: ANN202 - one of two kinds of protobuf map
        owners = self.message.owners[container_id]
        return owners.simple if key is None else owners.compound[field].owners
