"""What is on the machine: fds, mounts, cgroups, namespaces, processes, files, sockets, links, rows.

Leaks are judged by this inventory alone. It uses no code of ours, so that a defect in ours
cannot hide its own leak, and `tests/kernel/testing/test_inventory.py` plants one leak of each kind
to prove that it is seen.

    scope = Scope(tag="1a2bt", folders=(state,), databases=(root / "metadata.db",))
    before = take(scope)
    ...
    for item in leaked(before, take(scope)): print(item)

Whose is it? Of fds and processes those of this process and below it; of mounts and namespaces
those in its mount namespace; of cgroups, sockets and links those with the tag in their name; of
files all below `folders`. With `alone` every socket and link counts, and every cgroup but those
that lie beside the one we live in, whose maker makes such for others, too, and empty parents.
"""

from __future__ import annotations

import enum
import os
import re
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Inventory", "Item", "Kind", "Scope", "descendants", "leaked", "take"]


class Kind(enum.StrEnum):
    """The kinds of things that a container runtime can leave behind."""

    FD = "fd"
    MOUNT = "mount"
    CGROUP = "cgroup"
    NAMESPACE = "namespace"
    PROCESS = "process"
    FILE = "file"
    SOCKET = "socket"
    LINK = "link"
    ROW = "row"


@dataclass(frozen=True, slots=True, order=True)
class Item:
    """One thing. `detail` helps the reader and does not count in comparisons of identity."""

    kind: Kind
    key: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.key}" + (f" ({self.detail})" if self.detail else "")


@dataclass(frozen=True, slots=True)
class Scope:
    """What to look at, and how to tell ours from other people's."""

    tag: str = ""
    """Counts in names of cgroups, abstract sockets and links; empty: see `alone`."""
    folders: tuple[Path, ...] = ()
    """Every file below these counts; a folder that does not exist is an empty one."""
    databases: tuple[Path, ...] = ()
    """SQLite files whose every row counts."""
    alone: bool = False
    own_mounts: bool = True
    """The mount namespace is ours: every mount counts. Otherwise those with the tag."""
    kinds: frozenset[Kind] = frozenset(Kind)
    pid: int = 0
    """Whose fds, mounts and descendants; 0 is the calling process."""

    def ours(self, name: str) -> bool:
        return self.alone or (bool(self.tag) and self.tag in name)


class Inventory(dict[tuple[Kind, str], Item]):
    """Items by identity."""


def take(scope: Scope) -> Inventory:
    """List all that `scope` can see now; what vanishes meanwhile is passed over."""
    found = Inventory()
    for kind, look in _LOOKERS.items():
        if kind in scope.kinds:
            for item in look(scope):
                found[item.kind, item.key] = item
    return found


def leaked(before: Inventory, after: Inventory) -> list[Item]:
    """Return what is new in `after`, sorted."""
    return sorted(item for identity, item in after.items() if identity not in before)


def descendants(pid: int) -> list[int]:
    """Return all processes below `pid`, parents before children."""
    found: list[int] = []
    todo = [pid]
    while todo:
        parent = todo.pop()
        try:
            tasks = os.listdir(f"/proc/{parent}/task")
        except OSError:
            continue
        for task in tasks:
            children = [int(child) for child in _words(f"/proc/{parent}/task/{task}/children")]
            found += children
            todo += children
    return found


def _words(path: str) -> list[str]:
    try:
        with open(path) as file:
            return file.read().split()
    except OSError:
        return []


def _pid(scope: Scope) -> str:
    return str(scope.pid or os.getpid())


def _fds(scope: Scope) -> Iterator[Item]:
    folder = f"/proc/{_pid(scope)}/fd"
    for fd in os.listdir(folder):
        try:
            target = os.readlink(f"{folder}/{fd}")
        except OSError:  # the one that listdir itself had open
            continue
        yield Item(Kind.FD, f"{fd} -> {target}")


def _mounts(scope: Scope) -> Iterator[Item]:
    with open(f"/proc/{_pid(scope)}/mountinfo", "rb") as file:
        lines = file.read().decode(errors="surrogateescape").splitlines()
    for line in lines:
        head, _, tail = line.partition(" - ")
        fields, (fstype, *source) = head.split(" "), tail.split(" ")
        root, point = fields[3], fields[4]
        if not (scope.own_mounts or scope.ours(line)):
            continue
        yield Item(Kind.MOUNT, f"{fields[0]} {point}", f"{fstype} {' '.join(source[:1])} {root}")
        if fstype == "nsfs":
            yield Item(Kind.NAMESPACE, root, f"mounted on {point}")


def _cgroups(scope: Scope) -> Iterator[Item]:
    top = Path("/sys/fs/cgroup")
    if not top.is_dir():
        return
    homes = _homes()
    for folder, names, _ in os.walk(top):
        for name in names:
            path = os.path.join(folder, name)
            if not scope.ours(path) or re.search(r"/(system|user|init)\.(slice|scope)", path):
                continue
            tagged = bool(scope.tag) and scope.tag in path
            if tagged or not (_beside(path, homes) or _is_mere_parent(path)):
                yield Item(Kind.CGROUP, path, " ".join(_words(f"{path}/cgroup.procs")))


def _homes() -> list[str]:
    """Return the folders of the cgroups we are in, where somebody has made a place for us."""
    homes = []
    for line in _words("/proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if path.count("/") > 1:
            places = [controllers.removeprefix("name=")] if controllers else [".", "unified"]
            homes += [os.path.normpath(f"/sys/fs/cgroup/{place}{path}") for place in places]
    return homes


def _is_mere_parent(path: str) -> bool:
    """Tell whether it is what runtimes keep for the next container: `/NAME` or `/sampan/NAMESPACE`.

    They remove a container's cgroup and leave the empty folder above it, runc as well as ours. All
    else counts, `/default/ID` of a container of ctr and `/k8s.io/ID` included.
    """
    below_top = os.path.relpath(path, "/sys/fs/cgroup").split("/")
    if not os.path.exists("/sys/fs/cgroup/cgroup.procs"):  # a folder for each hierarchy, then
        del below_top[0]
    kept = len(below_top) <= 1 or (len(below_top) == 2 and below_top[0] == "sampan")
    if not kept or _words(f"{path}/cgroup.procs"):
        return False
    try:
        with os.scandir(path) as entries:
            below = [entry.path for entry in entries if entry.is_dir()]
    except OSError:  # gone meanwhile
        return True
    return all(_is_mere_parent(one) for one in below)


def _beside(path: str, homes: list[str]) -> bool:
    """Tell whether `path` is a sibling of one of `homes`, or below a sibling."""
    return any(
        path.startswith(f"{os.path.dirname(home)}/") and not f"{path}/".startswith(f"{home}/")
        for home in homes
    )


def _namespaces(scope: Scope) -> Iterator[Item]:
    """Those held open by our fds or lived in by processes below us; mounted ones come of mounts."""
    pid = int(_pid(scope))
    for holder in (pid, *descendants(pid)):
        for folder in ("ns", "fd"):
            where = f"/proc/{holder}/{folder}"
            try:
                names = os.listdir(where)
            except OSError:
                continue
            for name in names:
                try:
                    target = os.readlink(f"{where}/{name}")
                except OSError:
                    continue
                if re.fullmatch(r"\w+:\[\d+\]", target) and not target.startswith(_NOT_NAMESPACES):
                    yield Item(Kind.NAMESPACE, target, f"held by process {holder}")


_NOT_NAMESPACES = ("pipe:", "socket:", "anon_inode:")


def _processes(scope: Scope) -> Iterator[Item]:
    for pid in descendants(int(_pid(scope))):
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes().decode(errors="replace")
            command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ")
        except OSError:
            continue
        name, _, rest = stat.partition("(")[2].rpartition(")")
        fields = rest.split()
        # The start time tells a process from a later one of the same number.
        detail = f"{name}, state {fields[0]}: {command.decode(errors='replace').strip()[:200]}"
        yield Item(Kind.PROCESS, f"{pid} since {fields[19]}", detail)


def _files(scope: Scope) -> Iterator[Item]:
    for top in scope.folders:
        for folder, folders, files in os.walk(top):
            for name in (*folders, *files):
                yield Item(Kind.FILE, os.path.join(folder, name))


def _sockets(scope: Scope) -> Iterator[Item]:
    """Abstract sockets: pathname ones are files."""
    with open("/proc/net/unix") as file:
        for line in file:
            name = line.split()[-1]
            if name.startswith("@") and scope.ours(name):
                yield Item(Kind.SOCKET, name)


def _links(scope: Scope) -> Iterator[Item]:
    """Network devices of our network namespace."""
    for name in os.listdir("/sys/class/net"):
        alias = " ".join(_words(f"/sys/class/net/{name}/ifalias"))
        if scope.ours(f"{name} {alias}"):
            yield Item(Kind.LINK, name, alias)


def _rows(scope: Scope) -> Iterator[Item]:
    for path in scope.databases:
        if not path.exists():
            continue
        database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            for (table,) in tables.fetchall():
                for row in database.execute(f'SELECT * FROM "{table}"'):  # noqa: S608
                    yield Item(Kind.ROW, f"{path.name} {table} {row!r}")
        finally:
            database.close()


_LOOKERS = {
    Kind.FD: _fds,
    Kind.MOUNT: _mounts,
    Kind.CGROUP: _cgroups,
    Kind.NAMESPACE: _namespaces,
    Kind.PROCESS: _processes,
    Kind.FILE: _files,
    Kind.SOCKET: _sockets,
    Kind.LINK: _links,
    Kind.ROW: _rows,
}
