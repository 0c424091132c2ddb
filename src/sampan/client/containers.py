"""Containers as people speak of them: by name, by id or by the beginning of an id.

<root>/containers/<namespace>/
  names/<name>        one file a name, which holds the id: made with O_EXCL, so a name is one's own
  <id>/               0711; upper folders of `host:`
    log.json          output, a JSON object a line
    exit.json         the last exit, once the task is deleted
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sampan.concurrency import to_thread
from sampan.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from sampan.model.mounts import Mount
from sampan.runtime import Exit, ProcessState, Status

if TYPE_CHECKING:
    from sampan.client import Client
    from sampan.metadata import Container

__all__ = [
    "LABEL_NAME",
    "LABEL_SNAPSHOTS",
    "Folder",
    "View",
    "command_of",
    "find",
    "new_id",
    "remove",
    "view",
    "views",
]

LABEL_NAME: Final = "sampan/name"
LABEL_SNAPSHOTS: Final = "sampan/snapshots"
"""Names of the snapshots of a sandbox, as a JSON list; their keys are `<id>/<name>`."""
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}", re.ASCII)
_ADJECTIVES: Final = (
    "brisk", "calm", "eager", "fair", "keen", "light", "neat", "quick", "sober", "steady", "swift",
    "warm",
)  # fmt: skip
_NOUNS: Final = (
    "anchor", "bay", "beacon", "cove", "current", "gull", "harbour", "keel", "mast", "oar", "reef",
    "sail", "tide",
)  # fmt: skip


def new_id() -> str:
    """Return a fresh id: 64 hexadecimal digits, as docker's."""
    return secrets.token_hex(32)


class Folder:
    """A container's own folder, and its name."""

    def __init__(self, client: Client, id: str) -> None:
        self._top = client.root / "containers" / client.namespace
        self.id = id
        self.path = self._top / id
        self.log = self.path / "log.json"
        self.chosen = ""
        """The name that `make` took."""
        self.owner_fd = -1
        """See `sweeping`; whoever asked for it closes it."""

    def make(self, name: str, owned: bool = False) -> str:
        """Make the folder and take the name, or an invented one; return it.

        With `owned` it is locked as ours from its first moment on. Failed, nothing is left.

        Raises:
          AlreadyExists: another container has the name.
          InvalidArgument: it is no name.
        """
        names = self._top / "names"
        names.mkdir(mode=0o700, parents=True, exist_ok=True)
        if name and not _NAME.fullmatch(name):
            raise InvalidArgument(
                f"container name {name!r} is refused: letters, digits and _.- only, not first"
            )
        self._make_folder(owned)
        try:
            while True:
                chosen = name or _invented()
                if self._take(names / chosen):
                    break
                if name:
                    holder = (names / chosen).read_text()
                    raise AlreadyExists(  # noqa: TRY301 - undone below
                        f"the name {name!r} belongs to container {holder[:12]}: remove or rename it"
                    )
        except BaseException:
            self.disown()
            self.remove("")
            raise
        self.chosen = chosen
        return chosen

    def _make_folder(self, owned: bool) -> None:
        from sampan.client.sweeping import own

        made = self._top / f".new.{self.id}"
        made.mkdir(mode=0o711)
        made.chmod(0o711)
        if owned:
            self.owner_fd = own(made)
        made.rename(self.path)

    def disown(self) -> None:
        """Close the fd that says that it is ours."""
        fd, self.owner_fd = self.owner_fd, -1
        if fd >= 0:
            os.close(fd)

    def _take(self, path: Path) -> bool:
        temporary = path.with_name(f".{self.id}")
        temporary.write_text(self.id)
        try:
            os.link(temporary, path)
        except FileExistsError:
            # A name whose container's folder is gone was left by someone killed in between.
            if (self._top / path.read_text()).is_dir() or path.stat().st_ctime > _ten_seconds_ago():
                return False
            path.unlink(missing_ok=True)
            return self._take(path)
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def rename(self, old: str, new: str) -> None:
        """Take `new` and give `old` back.

        Raises:
          AlreadyExists: another container has the name.
        """
        if not _NAME.fullmatch(new):
            raise InvalidArgument(f"container name {new!r} is refused")
        if not self._take(self._top / "names" / new):
            raise AlreadyExists(f"the name {new!r} is taken")
        self.free(old)

    def free(self, name: str) -> None:
        """Give the name back, if it is ours."""
        path = self._top / "names" / name
        try:
            if name and path.read_text() == self.id:
                path.unlink()
        except FileNotFoundError:
            return

    def write_exit(self, exit: Exit) -> None:
        """Remember how the task ended."""
        temporary = self.path / f".exit.{os.getpid()}"
        temporary.write_text(json.dumps({"status": exit.status, "exited_at_ns": exit.exited_at_ns}))
        temporary.rename(self.path / "exit.json")

    def read_exit(self) -> Exit | None:
        """Return how the last task ended, if one did."""
        try:
            values = json.loads((self.path / "exit.json").read_text())
        except (FileNotFoundError, ValueError):
            return None
        return Exit(0, values["status"], values["exited_at_ns"])

    def write_mounts(self, mounts: list[Mount]) -> None:
        """Remember mounts that the snapshotter does not know."""
        values = [[m.type, m.source, m.target, list(m.options)] for m in mounts]
        (self.path / "mounts.json").write_text(json.dumps(values))

    def read_mounts(self) -> list[Mount]:
        """Return them."""
        try:
            values = json.loads((self.path / "mounts.json").read_text())
        except FileNotFoundError:
            return []
        return [Mount(kind, source, target, tuple(more)) for kind, source, target, more in values]

    def remove(self, name: str) -> None:
        """Remove the folder and free the name."""
        shutil.rmtree(self.path, ignore_errors=True)
        self.free(name)


def _invented() -> str:
    number = secrets.randbelow(1000)
    return f"{secrets.choice(_ADJECTIVES)}_{secrets.choice(_NOUNS)}{number}"


def _ten_seconds_ago() -> float:
    # A name is taken a moment before its folder is made: leave young ones alone.
    return datetime.now(UTC).timestamp() - 10


@dataclass(frozen=True, slots=True)
class View:
    """A container with the state of its task, if it has one."""

    container: Container
    task: ProcessState | None
    exit: Exit | None

    @property
    def name(self) -> str:
        return self.container.labels.get(LABEL_NAME, "")

    @property
    def state(self) -> str:
        """`created`, `running`, `paused` or `exited`, docker's words."""
        if self.task is None or self.task.status is Status.CREATED:
            return "exited" if self.exit and self.task is None else "created"
        words = {Status.RUNNING: "running", Status.PAUSED: "paused", Status.PAUSING: "paused"}
        return words.get(self.task.status, "exited")

    @property
    def exit_status(self) -> int:
        if self.task is not None and self.task.status is Status.STOPPED:
            return self.task.exit_status
        return self.exit.status if self.exit else 0

    @property
    def exited_at_ns(self) -> int:
        if self.task is not None and self.task.status is Status.STOPPED:
            return self.task.exited_at_ns
        return self.exit.exited_at_ns if self.exit else 0


async def find(client: Client, reference: str) -> Container:
    """Return the container of that name, id, or beginning of an id.

    Raises:
      NotFound: none.
      InvalidArgument: several.
    """
    found = []
    for one in await client.containers.list():
        if reference in (one.id, one.labels.get(LABEL_NAME)):
            return one
        if reference and one.id.startswith(reference):
            found.append(one)
    if len(found) > 1:
        raise InvalidArgument(f"{reference} begins the ids of {len(found)} containers: write more")
    if not found:
        raise NotFound(f"no such container: {reference}; see `sampan ps -a`")
    return found[0]


async def view(client: Client, container: Container) -> View:
    """Return a container with its task."""
    try:
        task = await client.tasks.state(container.id)
    except NotFound:
        task = None
    return View(container, task, await to_thread(Folder(client, container.id).read_exit))


async def views(client: Client) -> list[View]:
    """Return all containers with their tasks, the newest first."""
    from sampan.client.sweeping import sweep

    await sweep(client)
    tasks = {task.id: task for task in await client.tasks.list()}
    containers = sorted(await client.containers.list(), key=lambda c: c.created_at, reverse=True)
    return [View(one, tasks.get(one.id), Folder(client, one.id).read_exit()) for one in containers]


async def remove(
    client: Client, container: Container, *, force: bool = False, volumes: bool = False
) -> None:
    """Remove a container and all that is its own; with `volumes` its anonymous ones, too.

    Raises:
      FailedPrecondition: it runs, and `force` is not given.
    """
    seen = await view(client, container)
    if seen.state in ("running", "paused") and not force:
        raise FailedPrecondition(
            f"container {seen.name} is {seen.state}: stop it first, or use rm -f"
        )
    if seen.task is not None:
        if seen.state == "paused":
            await client.tasks.resume(container.id)
        await client.tasks.delete(container.id, force=True)
    from sampan.client.networking import release

    await release(client, container, forget=True)
    await _remove_snapshots(client, container)
    with suppress(NotFound):
        await client.delete_container(container.id)
    await to_thread(Folder(client, container.id).remove, seen.name)
    if volumes:
        await _remove_volumes(client, container)


async def _remove_snapshots(client: Client, container: Container) -> None:
    """Remove what was kept of its files under names; the label names them before they exist."""
    for name in json.loads(container.labels.get(LABEL_SNAPSHOTS) or "[]"):
        with suppress(NotFound):
            await client.snapshots(container.snapshotter).remove(f"{container.id}/{name}")


async def _remove_volumes(client: Client, container: Container) -> None:
    from sampan.client.volumes import LABEL, Volumes

    store = Volumes(client)
    for name in container.labels.get(LABEL, "").split(","):
        with suppress(NotFound, FailedPrecondition):
            if name and (await store.get(name)).anonymous:
                await store.remove(name)


async def relabel(client: Client, container: Container, labels: Mapping[str, str]) -> Container:
    """Add labels to a container."""
    new = replace(container, labels={**container.labels, **labels})
    return await client.containers.update(new, ["labels"])


def command_of(container: Container) -> list[str]:
    """Return what a container runs, from its config.json."""
    spec = json.loads(container.spec.value or b"{}")
    args: list[str] = (spec.get("process") or {}).get("args") or []
    return args
