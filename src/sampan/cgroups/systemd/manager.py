"""A Manager whose folder is a scope of systemd's.

A scope begins with a process, and ours has none before it is born: a holder, a child that only
waits, stands in until the first real process has come.
"""

# ruff: noqa: SIM105  contextlib is slow to import

from __future__ import annotations

import os
import select

from sampan.cgroups.hierarchies import Layout, detect
from sampan.cgroups.manager import Manager
from sampan.cgroups.systemd.bus import UNIT_EXISTS, Bus, BusError
from sampan.cgroups.systemd.names import UnitName, parse_path
from sampan.cgroups.systemd.properties import properties
from sampan.errors import FailedPrecondition, PermissionDenied, SampanError
from sampan.linux import prctl, process

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from sampan.model.runtime.resources import Resources

__all__ = ["SystemdManager"]

_UNIT, _BUS = "systemd.unit", "systemd.bus"
_GONE = "org.freedesktop.systemd1.NoSuchUnit"
_SIGKILL = 9


class SystemdManager(Manager):
    """As `Manager`; `create`, `apply` and `delete` speak to systemd as well."""

    __slots__ = ("_holder", "_name", "_user")

    def __init__(self, path: str, id: str, *, user: bool, layout: Layout | None = None) -> None:
        """Ask systemd where its own cgroups are; no unit is made yet.

        Args:
          path: cgroupsPath, `slice:prefix:name` or empty.
          id: The container's.
          user: Whether the calling user's own systemd is asked, not the system's.
          layout: The host's, by default `detect()`.

        Raises:
          InvalidArgument: the path is of another form. Unavailable: systemd does not listen.
        """
        layout = layout or detect()
        self._name = parse_path(path, id, default_slice="user.slice" if user else "system.slice")
        if user and not path.partition(":")[0]:
            self._name.slice = "app.slice"
        if user and layout.mode != "v2":
            raise FailedPrecondition(
                "the user's systemd has cgroups delegated on cgroup v2 only: "
                "do without --systemd-cgroup here"
            )
        self._user = user
        self._holder = -1
        with Bus.connect(user=user) as bus:
            top: str = bus.property("ControlGroup")
        super().__init__(f"{top.rstrip('/')}{self._name.folder}", layout=layout)

    @classmethod
    def from_state(cls, state: dict[str, str], *, path: str = "") -> SystemdManager:
        """Return the Manager whose `to_state` this was."""
        self = cls.__new__(cls)
        self._layout = detect()
        self.path = path
        self.paths = {key: value for key, value in state.items() if key not in (_UNIT, _BUS)}
        self._name = UnitName("", state[_UNIT])
        self._user = state[_BUS] == "user"
        self._holder = -1
        return self

    def to_state(self) -> dict[str, str]:
        """Return the folders by hierarchy, and the unit."""
        return {**self.paths, _UNIT: self._name.unit, _BUS: "user" if self._user else "system"}

    def create(self, *, exclusive: bool = True, best_effort: bool = False) -> None:
        """Have systemd make the unit, then make what it leaves out: controllers it has none for.

        Raises:
          FailedPrecondition: systemd refuses; a unit of that name is there, most likely.
        """
        try:
            if exclusive:
                self.refuse_used()
            with Bus.connect(user=self._user) as bus:
                self._start(bus)
            super().create(exclusive=False, best_effort=best_effort)
        except BaseException:
            self._release()
            raise

    def _start(self, bus: Bus) -> None:
        wanted: list[tuple[str, tuple[str, Any]]] = [
            ("Description", ("s", f"container {self._name.unit}")),
            ("DefaultDependencies", ("b", False)),
            *((f"{name}Accounting", ("b", True)) for name in ("CPU", "Memory", "Tasks", "IO")),
        ]
        if self._name.is_slice:
            wanted.append(("Wants", ("as", [self._name.slice])))
        else:
            pid, self._holder = process.clone3(0)
            if pid == 0:
                _hold()
            wanted.append(("Slice", ("s", self._name.slice)))
            wanted.append(("Delegate", ("b", True)))
            wanted.append(("PIDs", ("au", [pid])))
        bus.subscribe()
        arguments = [self._name.unit, "replace", wanted, []]
        for attempt in (1, 2):
            try:
                job = bus.call("StartTransientUnit", "ssa(sv)a(sa(sv))", arguments)[0]
                break
            except BusError as err:
                if err.name != UNIT_EXISTS or attempt == 2:
                    raise
                if self._name.is_slice:
                    return
                # Only one that has failed can be done away with so; a living one stays.
                try:
                    bus.call("ResetFailedUnit", "s", [self._name.unit])
                except BusError:
                    raise err from None
        bus.wait_job(job, f"start {self._name.unit}")

    @property
    def _by_adding(self) -> bool:
        """Whether a process is to be moved here by `add`, and not to be born here.

        The holder would count against a limit, and a user's session may lie outside of what is
        delegated: then only systemd may move processes.
        """
        return self._holder >= 0 or self._user

    def clone_fd(self) -> int | None:
        """Return no folder while the holder counts against a limit on pids."""
        return None if self._by_adding else super().clone_fd()

    def open_tasks(self) -> list[tuple[int, str]] | None:
        """Return nothing while there is a holder to be released by `add`."""
        return None if self._by_adding else super().open_tasks()

    def add(self, pid: int, *, skip_unified: bool = False) -> None:
        """Move a process here; if we may not, as across the bounds of a session, systemd does."""
        try:
            super().add(pid, skip_unified=skip_unified)
        except PermissionDenied:
            if not self._user:
                raise
            with Bus.connect(user=True) as bus:
                bus.call("AttachProcessesToUnit", "ssau", [self._name.unit, "", [pid]])
        self._release()

    def apply(self, resources: Resources) -> None:
        """Set limits, and tell systemd of them, which else would set its own at a reload."""
        wanted = properties(resources, v2=self._layout.mode == "v2")
        if wanted:
            with Bus.connect(user=self._user) as bus:
                bus.call("SetUnitProperties", "sba(sv)", [self._name.unit, True, wanted])
        super().apply(resources)

    def delete(self, timeout_s: float = 10) -> None:
        """Have systemd stop the unit, and remove the folders that are left."""
        self._release()
        try:
            with Bus.connect(user=self._user) as bus:
                self._stop(bus)
        except BusError as err:
            if err.name != _GONE:
                raise
        super().delete(timeout_s)

    def _stop(self, bus: Bus) -> None:
        bus.subscribe()
        job = bus.call("StopUnit", "ss", [self._name.unit, "replace"])[0]
        bus.wait_job(job, f"stop {self._name.unit}")
        try:
            bus.call("ResetFailedUnit", "s", [self._name.unit])
        except SampanError:
            pass

    def _release(self) -> None:
        """End the holder, whose place another has taken."""
        if self._holder < 0:
            return
        pidfd, self._holder = self._holder, -1
        try:
            process.pidfd_send_signal(pidfd, _SIGKILL)
        except ProcessLookupError:
            pass
        try:
            os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        except ChildProcessError:
            pass
        os.close(pidfd)


def _hold() -> None:
    try:
        prctl.set_pdeathsig(_SIGKILL)
        while True:
            select.poll().poll()
    finally:
        os._exit(0)
