"""The sandbox itself, for asyncio. What it is for and how it lives stands at the room's front door.

    made ─start─▶ running ─┬─ close, the end of the block, timeout, our death ─▶ gone, nothing left
                  ▲   │    └─ its first process ends ─▶ ended: `wait` tells how
                  └───┴─ rollback: all its processes end, its files are as they were

Calls may be made from several tasks at once. Whatever is cancelled, nothing is left: each call
either has an effect that `close` undoes, or none.
"""

from __future__ import annotations

import asyncio
import os
import signal as signals
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

from sampan.concurrency import shielded, to_thread
from sampan.errors import FailedPrecondition, InvalidArgument, NotFound, SampanError
from sampan.runtime import Exit, Stdio
from sampan.sandbox import branching, following
from sampan.sandbox.files import Files
from sampan.sandbox.making import Options, networking_of, process_json, request_of
from sampan.sandbox.process import Gathered, Process
from sampan.sandbox.scope import scoped
from sampan.sandbox.values import (
    Change,
    Completed,
    FileInfo,
    Mount,
    Stats,
    TimeoutExpired,
)

if TYPE_CHECKING:
    from pathlib import Path

    from sampan.client.creation import Root
    from sampan.metadata import Container
    from sampan.model.mounts import Mount as RawMount
    from sampan.model.runtime.process import Process as SpecProcess
    from sampan.sandbox.clients import Client

__all__ = ["Sandbox"]

_END_S: Final = 60.0
_OUTPUT_LIMIT: Final = 64 << 20


class Sandbox:
    """A container to run programs in; use it as a context manager."""

    def __init__(
        self,
        image: str = "host:",
        *,
        command: Sequence[str] | None = None,
        name: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str = "",
        user: str = "",
        hostname: str = "",
        memory: int | str | None = None,
        cpus: float | None = None,
        pids: int | None = None,
        network: str | None = None,
        ports: Mapping[int, int] | None = None,
        mounts: Sequence[Mount | str] | Mapping[str, str] = (),
        read_only: bool = False,
        cap_add: Sequence[str] = (),
        cap_drop: Sequence[str] = (),
        labels: Mapping[str, str] | None = None,
        timeout: float | None = None,
        pull: str = "missing",
        detach: bool = False,
        client: Client | None = None,
    ) -> None:
        """Note what is wanted; nothing happens before `start` or the beginning of the block.

        Args:
          image: A reference such as `docker.io/library/python:3.12`, or `host:` for this host's own
            programs, copy on write.
          command: The first process; empty is the image's own, None is one that only waits.
          name: By which others find it; empty invents one.
          env: Added to the image's environment.
          cwd: Working folder of its programs; empty is the image's.
          user: `USER` or `USER:GROUP`, by name or number; empty is the image's.
          hostname: Its host name; empty is the beginning of its id.
          memory: Most memory, in bytes or as `"512M"`.
          cpus: How many CPUs' time it may use.
          pids: How many processes it may have.
          network: None for none but loopback, `host`, or the name of a network.
          ports: Port in the sandbox to port of this host (0: a free one); needs a network.
          mounts: Folders of this host: `{"/data": "/in:ro"}`, `"/data:/in:ro"` or `Mount`.
          read_only: Whether its root cannot be written to.
          cap_add: Capabilities beyond the default ones.
          cap_drop: Capabilities to take away; `ALL` is every one.
          labels: Of its record.
          timeout: Seconds after which it is ended, whatever it does.
          pull: `missing`, `always` or `never`: whether to fetch the image.
          detach: It outlives the block and this process; end it by `close(force=True)`.
          client: Whose it is; by default one of the default settings.

        Raises:
          InvalidArgument: what is wanted can never be.
        """
        self.options = Options(
            image=image,
            command=None if command is None else tuple(command),
            name=name,
            env=dict(env or {}),
            cwd=cwd,
            user=user,
            hostname=hostname,
            memory=memory,
            cpus=cpus,
            pids=pids,
            network=network,
            ports=dict(ports or {}),
            mounts=mounts,
            read_only=read_only,
            cap_add=tuple(cap_add),
            cap_drop=tuple(cap_drop),
            labels=dict(labels or {}),
            pull=pull,
        )
        self.options.check()
        self.timeout = timeout
        self.detach = detach
        self._client = client
        self._container: Container | None = None
        self._mounts: list[RawMount] = []
        self._name = name
        self._template: SpecProcess | None = None
        self.pid = 0
        """Of its first process, on this host."""
        self._pidfd = self._owner_fd = -1
        self._waiter: asyncio.Task[Exit] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._processes: set[Process] = set()
        self._begun = self._closed = self._expired = False
        self._closing: asyncio.Task[None] | None = None
        self.changing = asyncio.Lock()
        """Held while its snapshots or its task change."""
        self._files = Files(self)
        self._root: Callable[[str], Awaitable[Root]] | None = None
        self._snapshotter = ""

    # --- what it is ----------------------------------------------------------------------

    @property
    def client(self) -> Client:
        """Its client.

        Raises:
          FailedPrecondition: it was not started.
        """
        if self._client is None:
            raise FailedPrecondition("the sandbox has not started: use it inside `with`")
        return self._client

    @property
    def namespace(self) -> str:
        """The namespace of its client."""
        from sampan.context import DEFAULT_NAMESPACE

        return self._client.namespace if self._client is not None else DEFAULT_NAMESPACE

    @property
    def container(self) -> Container:
        """Its record.

        Raises:
          FailedPrecondition: it was not started, or is closed.
        """
        if self._container is None:
            word = "is closed" if self._closed else "has not started: use it inside `with`"
            raise FailedPrecondition(f"sandbox {self._name or self.options.image} {word}")
        return self._container

    @container.setter
    def container(self, new: Container) -> None:
        self._container = new

    @property
    def id(self) -> str:
        """Its id, 64 hexadecimal digits."""
        return self.container.id

    @property
    def name(self) -> str:
        """Its name."""
        return self._name

    @property
    def image(self) -> str:
        """What it was made of."""
        return self.options.image

    @property
    def folder(self) -> Path:
        """Its folder below the client's root."""
        from sampan.client.containers import Folder

        return Folder(self.client.raw, self.id).path

    @property
    def mounts(self) -> list[RawMount]:
        """The mounts that are its root."""
        return self._mounts

    @property
    def pidfd(self) -> int:
        """Of its first process; borrowed."""
        return self._pidfd

    @property
    def returncode(self) -> int | None:
        """How its first process ended; None while it runs."""
        waiter = self._waiter
        if waiter is None or not waiter.done() or waiter.cancelled() or waiter.exception():
            return None
        return waiter.result().status

    def check_alive(self) -> None:
        """Raise an error that says why, unless programs can be run in it."""
        if self._expired:
            raise TimeoutExpired((f"sandbox {self._name}",), self.timeout or 0)
        _ = self.container
        if self.returncode is not None:
            raise FailedPrecondition(
                f"sandbox {self._name} has ended with status {self.returncode}: start another"
            )

    # --- the beginning and the end -------------------------------------------------------

    async def start(self) -> Self:
        """Start it; `with` does it for you. Cancelled or failed, nothing of it is left.

        Raises:
          NotFound: the image is not here, and could not be pulled.
          AlreadyExists: the name is taken.
          SampanError: as what it stands on says.
        """
        if self._begun:
            raise FailedPrecondition("the sandbox was started before: make another")
        self._begun = True
        if self._client is None:
            from sampan.sandbox.clients import default_client

            self._client = await default_client()
        await self._start()
        return self

    @scoped
    async def _start(self) -> None:
        from sampan.client.creation import create
        from sampan.client.host import HOST
        from sampan.client.images import ensure
        from sampan.client.sweeping import LABEL_REMOVE

        raw, options = self.client.raw, self.options
        if options.image != HOST and self._root is None:
            await ensure(raw, options.image, pull=options.pull)
        labels = dict(options.labels)
        if not self.detach:
            labels[LABEL_REMOVE] = "true"
        created = await create(
            raw,
            options.image,
            await to_thread(request_of, options, raw.root),
            name=options.name,
            labels=labels,
            networking=networking_of(options),
            root=self._root,
            snapshotter=self._snapshotter,
            swept=True,
        )
        self._container, self._mounts = created.container, created.mounts
        self._name, self._owner_fd = created.name, created.owner_fd
        self.client.remember(self)
        try:
            await self.run_task()
        except BaseException:
            await self._end()
            raise
        if self.timeout is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self.timeout, self._expire)

    async def run_task(self) -> None:
        """Make and start the task of its container; for `start` and `rollback`."""
        from sampan.client.creation import start_task

        tasks, container = self.client.raw.tasks, self.container
        stdio = Stdio()
        if self.options.command is not None:
            uri = f"sampan-log://{quote(str(self.folder / 'log.json'))}?format=json-file"
            stdio = Stdio(stdout=uri, stderr=uri)
        owner = -1 if self.detach else os.pidfd_open(os.getpid())
        try:
            pid = await start_task(self.client.raw, container, self._mounts, stdio, owner_fd=owner)
        finally:
            if owner >= 0:
                os.close(owner)
        self.pid = pid
        self._set_pidfd(os.pidfd_open(pid))
        await tasks.start(container.id)
        self._waiter = asyncio.get_running_loop().create_task(tasks.wait(container.id))

    async def end_task(self) -> None:
        """End its processes and its task; for `rollback`."""
        for process in list(self._processes):
            await process.close()
        waiter, self._waiter = self._waiter, None
        with suppress(NotFound):
            await self.client.raw.tasks.delete(self.id, force=True)
        if waiter is not None:
            waiter.cancel()
            await asyncio.wait((waiter,))

    def derive(self, other: Sandbox, root: Callable[[str], Awaitable[Root]], name: str) -> None:
        """Be as another one is, upon a root of one's own; for `fork`, before the start."""
        from dataclasses import replace

        self.options = replace(other.options, name=name, ports={})
        self.detach = False
        self._root, self._snapshotter = root, other.container.snapshotter

    def _set_pidfd(self, fd: int) -> None:
        old, self._pidfd = self._pidfd, fd
        if old >= 0:
            os.close(old)

    def _expire(self) -> None:
        self._expired = True
        self._closing = asyncio.get_running_loop().create_task(self._close())

    @classmethod
    async def _attached(cls, client: Client, name: str) -> Self:
        from sampan.client.containers import LABEL_NAME, find
        from sampan.client.creation import root_mounts

        container = await find(client.raw, name)
        state = await client.raw.tasks.state(container.id)
        self = cls(container.image, command=(), detach=True, client=client)
        pidfd = os.pidfd_open(state.pid)
        try:
            if (await client.raw.tasks.state(container.id)).pid != state.pid:
                raise NotFound(f"sandbox {name} has ended")  # noqa: TRY301
            self._mounts = await root_mounts(client.raw, container)
        except BaseException:
            os.close(pidfd)
            raise
        self._begun, self._container, self._pidfd = True, container, pidfd
        self.pid = state.pid
        self._name = container.labels.get(LABEL_NAME, "")
        waiting = client.raw.tasks.wait(container.id)
        self._waiter = asyncio.get_running_loop().create_task(waiting)
        client.remember(self)
        return self

    async def close(self, *, force: bool = False) -> None:
        """End it and free all that it had; a detached one lives on, unless `force`.

        Harmless twice. Cancelled, it still does all of it before it raises.
        """
        if self._container is None and self._closing is None:
            return
        if force:
            self.detach = False
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await shielded(2 * _END_S, _joined(self._closing))

    @scoped
    async def _close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for process in list(self._processes):
            with suppress(SampanError):
                await process.close()
        await self._end()

    async def _end(self) -> None:
        await shielded(_END_S, self._finish())

    async def _finish(self) -> None:
        from sampan.client.containers import remove

        container = self.container
        try:
            if not self.detach:
                with suppress(NotFound):
                    await remove(self.client.raw, container, force=True, volumes=True)
        finally:
            self._closed = True
            self._container = None
            self.client.forget(self)
            if self._waiter is not None and not self._waiter.done():
                self._waiter.cancel()
                await asyncio.wait((self._waiter,))
            if self._waiter is not None and not self._waiter.cancelled():
                self._waiter.exception()
            for fd in (self._pidfd, self._owner_fd):
                if fd >= 0:
                    os.close(fd)
            self._pidfd = self._owner_fd = -1

    def forget(self, process: Process) -> None:
        """Called by a process that is closed."""
        self._processes.discard(process)

    async def __aenter__(self) -> Self:
        if self._container is None:
            await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    # --- programs ------------------------------------------------------------------------

    async def run(
        self,
        *args: str,
        input: bytes | str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - as subprocess has it
        env: Mapping[str, str] | None = None,
        cwd: str = "",
        user: str = "",
        check: bool = False,
        output_limit: int = _OUTPUT_LIMIT,
    ) -> Completed:
        """Run a program to its end, and return how it ended and what it wrote.

        Args:
          args: The program and its arguments, one by one; there is no shell.
          input: What it reads; None is nothing.
          timeout: Seconds; when they are over it is killed with everything that it started.
          env: Added to the sandbox's environment.
          cwd: Working folder.
          user: `USER` or `USER:GROUP`.
          check: Raise unless it ends with status 0.
          output_limit: Bytes to keep of stdout and of stderr; the rest is thrown away.

        Raises:
          TimeoutExpired: `timeout` passed, or that of the sandbox.
          CalledProcessError: with `check`, it ended with another status than 0.
          FailedPrecondition: there is no such program, or the sandbox has ended.
        """
        gathered = Gathered(output_limit)
        process = Process(self, args, env=env, cwd=cwd, user=user, stdin=input is not None)
        try:
            async with asyncio.timeout(timeout):
                await self._launch(process)
                done = await process.gather(input, gathered)
        except TimeoutError:
            if timeout is None:
                raise
            raise TimeoutExpired(args, timeout, gathered.stdout, gathered.stderr) from None
        finally:
            await process.close()
        if self._expired:
            raise TimeoutExpired(args, self.timeout or 0, done.stdout, done.stderr)
        if check:
            done.check_returncode()
        return done

    async def _launch(self, process: Process) -> None:
        self.check_alive()
        self._processes.add(process)
        try:
            await process.start()
        except NotFound:
            self.check_alive()
            raise

    def exec(
        self,
        *args: str,
        env: Mapping[str, str] | None = None,
        cwd: str = "",
        user: str = "",
        tty: bool = False,
        stdin: bool = True,
    ) -> Process:
        """Return a program to be run by `with`, with streams to read and write meanwhile.

        Args:
          args: The program and its arguments, one by one; there is no shell.
          env: Added to the sandbox's environment.
          cwd: Working folder.
          user: `USER` or `USER:GROUP`.
          tty: Give it a terminal; then there is one stream of output.
          stdin: Whether it can be written to.
        """
        self.check_alive()
        process = Process(self, args, env=env, cwd=cwd, user=user, tty=tty, stdin=stdin)
        self._processes.add(process)
        return process

    async def process_spec(
        self,
        args: tuple[str, ...],
        *,
        env: Mapping[str, str] | None,
        cwd: str,
        user: str,
        tty: bool,
    ) -> dict[str, Any]:
        """Return the process of an exec, for `Process`."""
        if self._template is None:
            from sampan.model.runtime.spec import parse_spec

            self._template = parse_spec(self.container.spec.value).process
        if self._template is None:
            raise InvalidArgument(f"sandbox {self._name}: its config.json has no process")
        found = await self._files.user(user) if user else None
        return process_json(self._template, args, env=env, cwd=cwd, user=found, tty=tty)

    @scoped
    async def wait(self) -> int:
        """Wait for the end of its first process; return its exit status.

        Raises:
          FailedPrecondition: the sandbox was not started, or is closed.
        """
        _ = self.container
        assert self._waiter is not None  # noqa: S101 - it has started
        return (await asyncio.shield(self._waiter)).status

    @scoped
    async def kill(self, signal: int = signals.SIGKILL) -> None:
        """Send a signal to all of its processes; by default end them, and with them the sandbox.

        Its files stay until it is closed.
        """
        with suppress(NotFound):
            await self.client.raw.tasks.kill(self.id, signal, all=True)
        if signal == signals.SIGKILL and self._waiter is not None:
            await asyncio.wait((self._waiter,), timeout=_END_S)

    @scoped
    async def pause(self) -> None:
        """Stop the time of all its processes."""
        self.check_alive()
        await self.client.raw.tasks.pause(self.id)

    @scoped
    async def resume(self) -> None:
        """Let them go on."""
        self.check_alive()
        await self.client.raw.tasks.resume(self.id)

    @scoped
    async def stats(self) -> Stats:
        """Return what it uses now."""
        self.check_alive()
        return following.stats_of(await self.client.raw.tasks.stats(self.id))

    @scoped
    async def logs(self) -> bytes:
        """Return what its command has written so far, stdout and stderr together."""
        return await to_thread(following.read_log, self.folder / "log.json")

    async def follow_logs(self) -> AsyncIterator[bytes]:
        """Yield what its command writes, from the beginning until it ends."""
        waiter = self._waiter
        async for data in following.follow(self.folder / "log.json", waiter):
            yield data

    # --- files ---------------------------------------------------------------------------

    async def read(self, path: str) -> bytes:
        """Return a file's content.

        Raises:
          NotFound: there is none.
          FailedPrecondition: it is no regular file.
        """
        return await self._files.read(path)

    async def write(
        self, path: str, data: bytes | str, *, mode: int = 0o644, user: str = ""
    ) -> None:
        """Write a file, and make the folders on the way; what it had before is replaced.

        Args:
          path: Absolute; links lead where they do in the sandbox.
          data: Text goes as UTF-8.
          mode: Permission bits of a new file.
          user: Owner of what is made new; empty is root.
        """
        await self._files.write(path, data.encode() if isinstance(data, str) else data, mode, user)

    async def open(self, path: str, mode: str = "rb") -> IO[Any]:
        """Open a file as `open` does: a file object of this process, which outlives the sandbox.

        Modes are those of `open`; a file that is written to is made with its folders.
        """
        return await self._files.open(path, mode)

    async def stat(self, path: str) -> FileInfo:
        """Describe a file; links are not followed.

        Raises:
          NotFound: there is none.
        """
        return await self._files.stat(path)

    async def listdir(self, path: str = "/") -> list[FileInfo]:
        """Describe what is in a folder, by name."""
        return await self._files.listdir(path)

    async def mkdir(self, path: str, *, mode: int = 0o755, user: str = "") -> None:
        """Make a folder, and those on the way; one that is there is fine."""
        await self._files.mkdir(path, mode, user)

    async def remove(self, path: str) -> None:
        """Remove a file, or a folder with all that is in it; what is not there is fine."""
        await self._files.remove(path)

    async def upload(self, source: str | os.PathLike[str], target: str, *, user: str = "") -> None:
        """Copy a file or a folder of this host, with all that is in it, to `target`.

        Args:
          source: On this host.
          target: What it will be called in the sandbox; what is in a folder there is kept.
          user: Owner of all of it; empty is root.
        """
        await self._files.upload(os.fspath(source), target, user)

    async def download(self, source: str, target: str | os.PathLike[str]) -> None:
        """Copy a file or a folder of the sandbox, with all that is in it, to `target` here.

        It becomes this process's user's; devices, sockets and setuid bits do not come along.
        """
        await self._files.download(source, os.fspath(target))

    async def export(self, target: str | os.PathLike[str]) -> None:
        """Write the whole root file system as a tar archive."""
        await self._files.export(os.fspath(target))

    # --- other sandboxes of it -----------------------------------------------------------

    @scoped
    async def fork(
        self,
        *,
        name: str = "",
        timeout: float | None = None,  # noqa: ASYNC109 - the new sandbox's
    ) -> Sandbox:
        """Return a second sandbox, running, with the same files and none of the processes.

        The first is frozen for the moment of the copy, so that it is of one instant: files that are
        open for writing are as their writers had left them. Use it as a context manager, too.
        """
        self.check_alive()
        return await branching.fork(self, name=name, timeout=timeout)

    @scoped
    async def snapshot(self, name: str) -> None:
        """Keep the files as they are now under a name, until the sandbox is closed.

        Raises:
          AlreadyExists: the name is taken.
        """
        self.check_alive()
        await branching.snapshot(self, name)

    @scoped
    async def snapshots(self) -> list[str]:
        """Return the names that were given, the oldest first."""
        return branching.names(self)

    @scoped
    async def rollback(self, name: str) -> None:
        """Make the files what they were at that snapshot; all processes are ended for it.

        Raises:
          NotFound: there is no such snapshot.
        """
        self.check_alive()
        await branching.rollback(self, name)

    @scoped
    async def diff(self, name: str = "") -> list[Change]:
        """Return what is different from a snapshot, or from the image, by path."""
        _ = self.container
        return await branching.diff(self, name)

    @scoped
    async def commit(
        self,
        image: str,
        *,
        command: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
        author: str = "",
        message: str = "",
    ) -> str:
        """Make an image of its files upon its own; return the full name.

        Args:
          image: The name.
          command: The new image's; None keeps the old one's.
          env: Added to the image's environment.
          author: Written into its history.
          message: Likewise.

        Raises:
          FailedPrecondition: it stands on `host:`, which is no image.
        """
        _ = self.container
        return await branching.commit(
            self, image, command=command, env=env or {}, author=author, message=message
        )


async def _joined(task: asyncio.Task[None]) -> None:
    await asyncio.wait((task,))
    task.result()
