"""What tests of every room share. Loaded by pytest as the plugin `sampan.testing.plugin`.

    @requires("root", "busybox", "cgroup:pids", "kernel>=5.12", "runc>=1.1.5", "module:grpc")
        skips, and says what is missing; `pytest --require-all tests/allowed-skips.txt` turns each
        skip that the file does not explain into a failure.
    no_leaks (autouse)
        fails a test that leaves an fd, mount, cgroup, namespace, process, socket, network device
        or file behind, as `inventory` finds them.
    root, state            private folders with short paths (AF_UNIX paths end at 107 bytes)
    unique_name()          a name that tells `no_leaks` whose cgroup or file it is
    bundle, rootfs         a `Bundle` over a busybox rootfs; `Bundle.update()` edits config.json
    runtime                a `Runtime`: sampan-oci by exec, the same by fork in a zygote's worker,
                           runc, and crun where it works; the peers keep a test honest
    inventory              what is on the machine, found without any code of ours

Other people's tests may run on the same machine. So the pytest process has a mount namespace of
its own (every mount in it is ours), is a subreaper (every process that we made stays below us), and
names everything else by a tag of the session. With `SAMPAN_TEST_ALONE=1`, as CI has it, whatever
is new is a leak.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.testing.bundle import Bundle
    from sampan.testing.inventory import Inventory, Item, Kind, Scope
    from sampan.testing.requirements import missing, require, requires
    from sampan.testing.rootfs import build_busybox_rootfs, build_rootfs, closure
    from sampan.testing.runtimes import RunResult, Runtime
    from sampan.testing.session import SESSION, unique_name

__all__ = [
    "SESSION",
    "Bundle",
    "Inventory",
    "Item",
    "Kind",
    "RunResult",
    "Runtime",
    "Scope",
    "build_busybox_rootfs",
    "build_rootfs",
    "closure",
    "missing",
    "require",
    "requires",
    "unique_name",
]

_HOMES = {
    "Bundle": "bundle",
    "Inventory": "inventory",
    "Item": "inventory",
    "Kind": "inventory",
    "Scope": "inventory",
    "RunResult": "runtimes",
    "Runtime": "runtimes",
    "SESSION": "session",
    "unique_name": "session",
    "build_busybox_rootfs": "rootfs",
    "build_rootfs": "rootfs",
    "closure": "rootfs",
    "missing": "requirements",
    "require": "requirements",
    "requires": "requirements",
}


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(name)
