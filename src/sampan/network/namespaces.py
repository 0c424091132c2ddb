"""Pinned network namespaces: made by a thread, held by a bind mount, swept after a crash.

    <folder>/              0711
      .lock                shared while one is made, exclusive while rests are swept
      <key>                a network namespace mounted on an empty file

A killed process leaves at most an empty file behind: a namespace that is not mounted yet ends with
its thread.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sampan.concurrency import Limit, to_thread
from sampan.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from sampan.linux import mounts
from sampan.linux.namespaces import CLONE_NEWNET, NSFS_MAGIC, nstype, unshare
from sampan.network.errors import on_disk
from sampan.network.inside import in_fresh_thread

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sampan.zygote import Zygote

__all__ = ["PinnedNamespaces"]

log = logging.getLogger(__name__)

_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,250}")
_MAKING: Final = Limit("netns", 4)
_REMOVING: Final = Limit("netns-removal", 2)
"""Of its own: unmounting waits for an RCU grace period, and must not hold up those who make one."""


class PinnedNamespaces:
    """Network namespaces as files of one folder."""

    def __init__(
        self, folder: Path, *, zygote: Callable[[], Awaitable[Zygote]] | None = None
    ) -> None:
        """Take `folder`; `zygote` is asked for a child when a user namespace is to own one."""
        self._folder = folder
        self._zygote = zygote
        self._pending: set[Future[None]] = set()

    def use_zygote(self, zygote: Callable[[], Awaitable[Zygote]]) -> None:
        """Say whom to ask for a child when a user namespace is to own a network namespace."""
        self._zygote = zygote

    def path(self, key: str) -> str:
        """Return where `key` is, or would be."""
        if not _KEY.fullmatch(key):
            raise InvalidArgument(f"network namespace {key!r}: only letters, digits and _.- please")
        return str(self._folder / key)

    async def create(self, key: str, *, userns: str = "") -> str:
        """Make one and return its path."""
        path = self.path(key)
        if not userns:
            with on_disk(f"making network namespace {key}"):
                await to_thread(self._make, path, "", limit=_MAKING)
            return path
        if self._zygote is None:
            raise FailedPrecondition(
                f"network namespace {key} for user namespace {userns}: no zygote to make it"
            )
        zygote = await self._zygote()
        with on_disk(f"making network namespace {key}"):
            await to_thread(self._make_owned, path, userns, zygote, limit=_MAKING)
        return path

    async def pin(self, key: str, source: str) -> str:
        """Pin the namespace at `source` and return its new path."""
        path = self.path(key)
        with on_disk(f"pinning {source} as network namespace {key}"):
            await to_thread(self._make, path, source, limit=_MAKING)
        return path

    async def remove(self, key: str) -> None:
        """Unpin it; fine if it is not there."""
        path = self.path(key)
        with on_disk(f"removing network namespace {key}"):
            await to_thread(self._remove, path, limit=_REMOVING)

    def remove_later(self, key: str) -> None:
        """Unpin it in the background."""
        path = self.path(key)
        future = _REMOVING.submit(lambda: self._remove(path))
        self._pending.add(future)
        future.add_done_callback(self._removed)

    async def list(self) -> Sequence[str]:
        """Return the keys of those that exist; rests of interrupted calls are swept away."""
        return await to_thread(self._list)

    async def close(self) -> None:
        """Wait for removals that still run."""

        def wait() -> None:
            for future in tuple(self._pending):
                future.exception()

        await to_thread(wait)

    def _removed(self, future: Future[None]) -> None:
        self._pending.discard(future)
        if (error := future.exception()) is not None:
            log.warning("network namespace could not be removed: %s", error)

    @contextmanager
    def _locked(self, kind: int) -> Iterator[None]:
        try:
            fd = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._folder.chmod(0o711)
            fd = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, kind)
            yield
        finally:
            os.close(fd)

    def _make(self, path: str, source: str) -> None:
        """Mount `source`, or a new namespace, on a new file."""

        def born() -> None:
            if not source:
                unshare(CLONE_NEWNET)
            mounts.mount(source or "/proc/thread-self/ns/net", path, None, mounts.MS_BIND)

        if source:
            _check_kind(source)
        if not self._reserve(path, born):
            self._sweep()
            if not self._reserve(path, born):
                raise AlreadyExists(f"network namespace {path}")

    def _reserve(self, path: str, born: Callable[[], None]) -> bool:
        with self._locked(fcntl.LOCK_SH):
            try:
                os.close(os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444))
            except FileExistsError:
                return False
            try:
                in_fresh_thread(born)
            except BaseException:
                os.unlink(path)
                raise
        return True

    def _make_owned(self, path: str, userns: str, zygote: Zygote) -> None:
        """Let a child of the zygote enter `userns` and unshare there, then pin what it has."""
        ours, theirs = os.pipe()
        fd = -1
        try:
            try:
                fd = os.open(userns, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError as error:
                raise NotFound(f"user namespace {userns}") from error
            release, held = os.pipe()
            try:
                worker = zygote.fork(
                    f"{__name__.rpartition('.')[0]}.holder:hold",
                    fds=[fd, theirs, release],
                    name="sampan-netns",
                )
                os.close(theirs)
                theirs = -1
                with worker:
                    if os.read(ours, 1) != b"+":
                        raise FailedPrecondition(
                            f"user namespace {userns} cannot be entered to make a network namespace"
                        )
                    self._make(path, f"/proc/{worker.pid}/ns/net")
                    os.close(held)
                    held = -1
                    worker.wait(timeout_s=10)
            finally:
                os.close(release)
                if held >= 0:
                    os.close(held)
        finally:
            for one in (ours, theirs, fd):
                if one >= 0:
                    os.close(one)

    @staticmethod
    def _remove(path: str) -> None:
        # Lazily: a container of ours that was born meanwhile holds a copy of the mount table.
        with suppress(FileNotFoundError):
            while True:
                try:
                    mounts.umount2(path, mounts.MNT_DETACH | mounts.UMOUNT_NOFOLLOW)
                except OSError as error:
                    if error.errno != 22:  # EINVAL: not mounted, or not any more
                        raise
                    break
            os.unlink(path)

    def _list(self) -> Sequence[str]:
        self._sweep()
        with suppress(FileNotFoundError):
            return sorted(n for n in os.listdir(self._folder) if _KEY.fullmatch(n))
        return []

    def _sweep(self) -> None:
        """Remove files that hold no namespace, while nobody is about to mount one on them."""
        if not self._folder.is_dir():
            return
        with self._locked(fcntl.LOCK_EX):
            for name in os.listdir(self._folder):
                path = str(self._folder / name)
                if _KEY.fullmatch(name) and mounts.statfs_type(path) != NSFS_MAGIC:
                    with suppress(OSError):
                        os.unlink(path)


def _check_kind(path: str) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(f"network namespace {path}") from error
    try:
        if nstype(fd) != CLONE_NEWNET:
            raise InvalidArgument(f"{path} is a namespace, but none of network")
    except OSError as error:
        raise InvalidArgument(f"{path} is no network namespace") from error
    finally:
        os.close(fd)
