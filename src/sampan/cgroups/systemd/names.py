"""Names of systemd's units and slices. Source: systemd.slice(5), systemd.unit(5).

cgroupsPath is `slice:prefix:name` here: `machine.slice:libpod:c1` is the unit `libpod-c1.scope`
below /machine.slice. A name that ends in `.slice` is a slice itself.
"""

from __future__ import annotations

from sampan.errors import InvalidArgument

__all__ = ["UnitName", "expand_slice", "parse_path"]

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:-_.\\@")
_MAX_NAME = 255


class UnitName:
    """A unit and the slice that it lies in."""

    __slots__ = ("slice", "unit")

    def __init__(self, slice: str, unit: str) -> None:
        self.slice = slice
        self.unit = unit

    @property
    def is_slice(self) -> bool:
        return self.unit.endswith(".slice")

    @property
    def folder(self) -> str:
        """Path of the cgroup below the manager's own root."""
        if self.is_slice:
            return expand_slice(self.unit)
        return expand_slice(self.slice).rstrip("/") + "/" + self.unit


def parse_path(path: str, id: str, *, default_slice: str) -> UnitName:
    """Return the unit of a container.

    Args:
      path: cgroupsPath, `slice:prefix:name` or empty.
      id: The container's, for the name where there is no path.
      default_slice: Where it goes if no slice is given.

    Raises:
      InvalidArgument: the path has not three parts, or one of them cannot be in a unit's name.
    """
    slice_, prefix, name = "", "sampan", id
    if path:
        parts = path.split(":")
        if len(parts) != 3:
            raise InvalidArgument(
                'expected cgroupsPath to be of format "slice:prefix:name" for systemd cgroups, '
                f'got "{path}" instead'
            )
        slice_, prefix, name = parts
    slice_ = slice_ or default_slice
    expand_slice(slice_)
    if name.endswith(".slice"):
        expand_slice(name)
        return UnitName(slice_, name)
    unit = f"{prefix}-{name}.scope" if prefix else f"{name}.scope"
    if not name or not _LETTERS.issuperset(unit) or len(unit) > _MAX_NAME:
        raise InvalidArgument(f"cgroupsPath {path!r}: {unit!r} is no name for a systemd unit")
    return UnitName(slice_, unit)


def expand_slice(name: str) -> str:
    """Return the folder of a slice: `a-b.slice` lies in `a.slice`, `-.slice` is the root.

    Raises:
      InvalidArgument: it is no name of a slice.
    """
    if name == "-.slice":
        return "/"
    stem = name.removesuffix(".slice")
    parts = stem.split("-")
    if stem == name or not all(parts) or not _LETTERS.issuperset(stem) or len(name) > _MAX_NAME:
        raise InvalidArgument(f"{name!r} is no name for a systemd slice")
    return "".join(f"/{'-'.join(parts[: i + 1])}.slice" for i in range(len(parts)))
