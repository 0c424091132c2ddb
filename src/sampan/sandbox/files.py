"""Files in and out of a sandbox, by confined workers (`fileworker`): what the caller's side does.

    open, read, write   a worker opens the file inside and hands us the fd; we read and write it
    upload              our tree, packed by a thread ─ pipe ─► a worker inside applies it
    download            a worker inside packs ─ pipe ─► a worker rooted at our folder applies it

No path of the sandbox is ever opened in this process, and nothing of what comes out is parsed here.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import stat
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, TypeVar

from sampan.concurrency import Limit, to_thread
from sampan.errors import InvalidArgument, NotFound, ResourceExhausted
from sampan.sandbox.packing import pack
from sampan.sandbox.scope import scoped
from sampan.sandbox.values import FileInfo
from sampan.sandbox.workers import FILES, ask

if TYPE_CHECKING:
    from sampan.model.runtime.process import User
    from sampan.sandbox.box import Sandbox

__all__ = ["Files"]

T = TypeVar("T")

_COPIES: Final = Limit("file copies", 4)
_MOST_BYTES: Final = 1 << 31
_MODES: Final = {
    "r": os.O_RDONLY,
    "w": os.O_WRONLY | os.O_CREAT | os.O_TRUNC,
    "a": os.O_WRONLY | os.O_CREAT | os.O_APPEND,
    "x": os.O_WRONLY | os.O_CREAT | os.O_EXCL,
}


class Files:
    """The files of one sandbox."""

    def __init__(self, box: Sandbox) -> None:
        self._box = box

    @property
    def namespace(self) -> str:
        """That of the sandbox."""
        return self._box.namespace

    async def _ask(
        self, call: str, fds: Sequence[int] = (), **values: object
    ) -> tuple[Any, list[int]]:
        box = self._box
        box.check_alive()
        zygote = await box.client.raw.zygote()
        request = {"call": call, "pid": box.pid, **values}
        try:
            return await ask(zygote, FILES, request, [box.pidfd, *fds])
        except NotFound:
            box.check_alive()
            raise

    @scoped
    async def user(self, user: str) -> User:
        """Return a user of the sandbox's own /etc/passwd."""
        from sampan.model.runtime.process import User

        (uid, gid, more), _ = await self._ask("user", user=user, path="/etc/passwd")
        return User(uid=uid, gid=gid, additional_gids=tuple(more))

    @scoped
    async def read(self, path: str) -> bytes:
        """See Sandbox."""
        _, (fd,) = await self._ask("open", path=path, flags=os.O_RDONLY)
        return await _consumed(fd, _read, path)

    @scoped
    async def write(self, path: str, data: bytes, mode: int, user: str) -> None:
        """See Sandbox."""
        _, (fd,) = await self._ask("open", path=path, flags=_MODES["w"], mode=mode, user=user)
        await _consumed(fd, _write, data)

    @scoped
    async def open(self, path: str, mode: str) -> IO[Any]:
        """See Sandbox."""
        letters = mode.replace("b", "").replace("t", "")
        flags = _MODES.get(letters.replace("+", ""))
        if flags is None or len(letters) > 2:
            raise InvalidArgument(f"mode {mode!r} is none that open() has")
        if "+" in letters:
            flags = flags & ~os.O_ACCMODE | os.O_RDWR
        _, (fd,) = await self._ask("open", path=path, flags=flags)
        return open(fd, mode.replace("x", "w"))  # noqa: ASYNC230 - no path is opened

    @scoped
    async def stat(self, path: str) -> FileInfo:
        """See Sandbox."""
        value, _ = await self._ask("stat", path=path)
        return FileInfo(*value)

    @scoped
    async def listdir(self, path: str) -> list[FileInfo]:
        """See Sandbox."""
        _, (fd,) = await self._ask("list", path=path)
        found = json.loads(await _consumed(fd, _read, path))
        return [FileInfo(*one) for one in found]

    @scoped
    async def mkdir(self, path: str, mode: int, user: str) -> None:
        """See Sandbox."""
        await self._ask("mkdir", path=path, mode=mode, user=user)

    @scoped
    async def remove(self, path: str) -> None:
        """See Sandbox."""
        await self._ask("remove", path=path)

    @scoped
    async def upload(self, source: str, target: str, user: str) -> None:
        """See Sandbox."""
        try:
            fd = await to_thread(os.open, source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as err:
            raise NotFound(f"upload {source}: {err.strerror}") from err
        try:
            if not stat.S_ISDIR(os.fstat(fd).st_mode):
                mode = os.fstat(fd).st_mode & 0o777
                flags = _MODES["w"]
                _, (there,) = await self._ask(
                    "open", path=target, flags=flags, mode=mode, user=user
                )
                await _consumed(there, _copy, fd)
                return
            await _piped(
                lambda out: to_thread(_pack_ours, fd, out, limit=_COPIES),
                lambda end: self._ask("unpack", [end], path=target, user=user),
            )
        finally:
            os.close(fd)

    @scoped
    async def download(self, source: str, target: str) -> None:
        """See Sandbox."""
        info = await self.stat(source)
        if info.kind == "link":
            info = await self.stat(await self._followed(source))
        if info.kind != "folder":
            _, (fd,) = await self._ask("open", path=source, flags=os.O_RDONLY)
            await _consumed(fd, _save, target, info.mode)
            return
        await to_thread(_make_folder, target)
        folder = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        raw = self._box.client.raw
        ids = [0, 0] if raw.rootless else [os.geteuid(), os.getegid()]
        request: Mapping[str, object] = {
            "call": "unpack", "folder": True, "path": "/", "ids": ids,
        }  # fmt: skip
        try:
            zygote = await raw.zygote()
            await _piped(
                lambda out: self._ask("pack", [out], path=source),
                lambda end: ask(zygote, FILES, request, [folder, end]),
            )
        finally:
            os.close(folder)

    async def _followed(self, path: str) -> str:
        """Return a path whose last component is no link, as long as nobody changes it."""
        for _ in range(40):
            info = await self.stat(path)
            if info.kind != "link":
                return path
            path = _joined(path, info.target)
        return path

    @scoped
    async def export(self, target: str) -> None:
        """See Sandbox."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        fd = await to_thread(os.open, target, flags, 0o644)
        try:
            await self._ask("pack", [fd], path="/", whole=True)
        finally:
            os.close(fd)


def _joined(path: str, target: str) -> str:
    return os.path.normpath(os.path.join(os.path.dirname(path), target))


async def _consumed(fd: int, fn: Callable[..., T], *args: Any) -> T:
    """Call `fn(fd, *args)`, which closes the fd, in a thread; one that never ran has it closed."""
    taken = False

    def run() -> T:
        nonlocal taken
        taken = True
        return fn(fd, *args)

    try:
        return await to_thread(run, limit=_COPIES)
    finally:
        if not taken:
            os.close(fd)


async def _piped(
    source: Callable[[int], Coroutine[Any, Any, Any]],
    sink: Callable[[int], Coroutine[Any, Any, Any]],
) -> None:
    """Run both ends of a pipe; when one fails the other sees the pipe end."""
    reading, writing = os.pipe()
    with suppress(OSError):
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 1 << 20)
    ends = {reading, writing}

    async def run(work: Callable[[int], Coroutine[Any, Any, Any]], fd: int) -> None:
        # An error here is told after the other end has seen the pipe close, not instead.
        try:
            await work(fd)
        finally:
            os.close(fd)
            ends.discard(fd)

    first = asyncio.ensure_future(run(sink, reading))  # noqa: TID251 - both ends are awaited
    second = asyncio.ensure_future(run(source, writing))  # noqa: TID251
    try:
        await asyncio.wait((first, second))
    except asyncio.CancelledError:
        first.cancel()
        second.cancel()
        await asyncio.wait((first, second))
        raise
    # Whoever reads knows best why it stopped; a writer only sees that nobody reads.
    for one in (first, second):
        error = one.exception()
        if error is not None and not isinstance(error, BrokenPipeError):
            for other in (first, second):
                other.exception()
            raise error
    first.result()
    second.result()


def _read(fd: int, path: str) -> bytes:
    with open(fd, "rb", buffering=0) as file:
        if os.fstat(fd).st_size > _MOST_BYTES:
            raise ResourceExhausted(f"{path} is larger than 2 GiB: use open() or download()")
        os.lseek(fd, 0, os.SEEK_SET)
        parts, left = [], _MOST_BYTES
        while left > 0 and (data := file.read(min(left, 1 << 20))):
            parts.append(data)
            left -= len(data)
        return b"".join(parts)


def _write(fd: int, data: bytes) -> None:
    with open(fd, "wb", buffering=0) as file:
        left = memoryview(data)
        while left:
            left = left[file.write(left) :]


def _copy(fd: int, source: int) -> None:
    with open(source, "rb", closefd=False) as reader, open(fd, "wb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)


def _save(fd: int, target: str, mode: int) -> None:
    path = Path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(fd, "rb", buffering=0) as reader, path.open("wb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 20)
        os.fchmod(writer.fileno(), mode & 0o777)


def _make_folder(target: str) -> None:
    Path(target).mkdir(parents=True, exist_ok=True)


def _pack_ours(folder: int, out: int) -> None:
    proc = os.open("/proc/self/fd", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        pack(folder, out, proc_fd=proc)
    finally:
        os.close(proc)
