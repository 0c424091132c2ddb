"""`linux.intelRdt`: a share of the cache and of memory bandwidth, by the resctrl file system.

    <resctrl>/<class of service>/    closID, or the container's id
        schemata                     what may be used
        tasks                        who is in it

Source: runtime-spec config-linux.md#intelrdt; kernel, Documentation/arch/x86/resctrl.rst.
"""

from __future__ import annotations

import os

from sampan.errors import FailedPrecondition, InvalidArgument, Unimplemented
from sampan.linux import mounts as mnt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.model.runtime.linux import IntelRdt

__all__ = ["ClassOfService", "plan_rdt"]


class ClassOfService:
    """A folder of resctrl and what is to be written there."""

    __slots__ = ("_must_exist", "_schemata", "path")

    def __init__(self, path: str, schemata: list[str], *, must_exist: bool) -> None:
        self.path = path
        self._schemata = schemata
        self._must_exist = must_exist

    def set_up(self) -> bool:
        """Make the folder and set its schemata; return whether it is ours to remove.

        Raises:
          FailedPrecondition: it should be there and is not, or is there with other schemata.
          InvalidArgument: the kernel refuses the schemata.
        """
        made = False
        try:
            os.mkdir(self.path, 0o755)
            made = True
        except FileExistsError:
            pass
        except OSError as err:
            raise FailedPrecondition(f"make {self.path}: {err.strerror}") from err
        try:
            self._fill(made=made)
        except BaseException:
            if made:
                os.rmdir(self.path)
            raise
        return made

    def _fill(self, *, made: bool) -> None:
        if made and self._must_exist:
            raise FailedPrecondition(
                f"intelRdt.closID names {self.path}, which is not there, and no schemata are given"
            )
        if made:
            self._write()
        elif self._schemata:
            self._compare()

    def _write(self) -> None:
        text = "".join(f"{line}\n" for line in self._schemata)
        try:
            with open(f"{self.path}/schemata", "wb", buffering=0) as file:
                if text:
                    file.write(text.encode())
        except OSError as err:
            raise InvalidArgument(
                f"write {text!r} to {self.path}/schemata: {err.strerror}"
            ) from err

    def _compare(self) -> None:
        """Refuse to take a folder over whose schemata are not those that are asked for."""
        with open(f"{self.path}/schemata", "rb") as file:
            there = {b"".join(line.split()) for line in file}
        for line in self._schemata:
            if "".join(line.split()).encode() not in there:
                raise FailedPrecondition(f"{self.path} is there already, without {line!r}")

    def remove(self) -> None:
        """Remove the class; its tasks fall back to the default."""
        try:
            os.rmdir(self.path)
        except FileNotFoundError:
            return
        except OSError as err:
            raise FailedPrecondition(f"remove {self.path}: {err.strerror}") from err

    def add(self, pid: int) -> None:
        """Put a process in."""
        try:
            with open(f"{self.path}/tasks", "wb", buffering=0) as file:
                file.write(b"%d" % pid)
        except OSError as err:
            raise FailedPrecondition(f"write {pid} to {self.path}/tasks: {err.strerror}") from err


def plan_rdt(wanted: IntelRdt, id: str) -> ClassOfService:
    """Check `linux.intelRdt` and find where resctrl is mounted.

    Raises:
      InvalidArgument: closID cannot be a folder's name. Unimplemented: there is no resctrl here.
    """
    top = _mount_point()
    if top is None:
        raise Unimplemented(
            "config.json asks for linux.intelRdt, but resctrl is not mounted: "
            "the processor lacks it, or mount -t resctrl resctrl /sys/fs/resctrl is missing"
        )
    name = wanted.clos_id
    if name in (".", "..") or ("/" in name and name != "/") or "\n" in name:
        raise InvalidArgument(f"intelRdt.closID {name!r} is no name of a class")
    schemata = list(wanted.schemata)
    schemata += [line for line in (wanted.l3_cache_schema, wanted.mem_bw_schema) if line]
    if any("\n" in line for line in schemata):
        raise InvalidArgument("intelRdt: a schema has more than one line")
    path = top if name == "/" else f"{top}/{name or id}"
    return ClassOfService(path, schemata, must_exist=bool(name) and not schemata)


def _mount_point() -> str | None:
    for info in mnt.mountinfo():
        if info.fstype == b"resctrl":
            return os.fsdecode(info.mount_point)
    return None
