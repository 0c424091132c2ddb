"""`sampan run`: create a container, start it, and be its terminal until it ends."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from sampan.cli.app import App, Quit
from sampan.cli.container import flags
from sampan.cli.exit import of_start
from sampan.cli.output import warn
from sampan.concurrency import shielded, to_thread
from sampan.errors import AlreadyExists, NotFound, SampanError

if TYPE_CHECKING:
    from sampan.client import Client
    from sampan.client.containers import Folder
    from sampan.client.creation import Created
    from sampan.client.spec.request import Request
    from sampan.metadata import Container
    from sampan.model.mounts import Mount

__all__ = ["POSITIONAL", "attached", "configure", "detached", "make", "run"]

POSITIONAL = 1


def configure(parser: argparse.ArgumentParser) -> None:
    flags.add(parser, image="?")
    parser.add_argument(
        "-d", "--detach", action="store_true", help="leave it running and print its id"
    )
    parser.add_argument(
        "--bundle", type=Path, default=None, metavar="DIR", help="run an OCI bundle, not an image"
    )
    parser.add_argument(
        "--sig-proxy", default="true", choices=("true", "false"), help="pass our signals on"
    )


async def run(app: App, args: argparse.Namespace) -> int:
    if args.bundle is None and not args.image:
        raise Quit(125, "run: name an image; see `sampan run --help`")
    if args.bundle is not None and args.image:
        raise Quit(125, "run: with --bundle, config.json says what runs: name no image or command")
    request = flags.request_of(args)
    labels = flags.labels_of(args)
    if args.tty and args.interactive and not args.detach and not os.isatty(0):
        raise Quit(1, "the input device is not a terminal: leave -t out, or run it from a terminal")
    async with app.client(warm=True) as client:
        created = await _made(client, args, request, labels)
        try:
            if args.detach:
                await detached(client, created.container, created.mounts)
                print(created.container.id)
                return 0
            return await attached(
                client,
                created.container,
                created.mounts,
                stdin=args.interactive,
                terminal=args.tty,
                proxy=args.sig_proxy == "true",
                remove=args.rm,
            )
        except StartError as err:
            if args.rm:
                await shielded(30, _discard(client, created.container))
            raise Quit(of_start(err.cause), " ".join(str(err.cause).split())) from err


async def _made(
    client: Client, args: argparse.Namespace, request: Request, labels: dict[str, str]
) -> Created:
    if args.bundle is None:
        return await make(client, args, request, labels)
    from sampan.client.bundles import create

    return await create(client, args.bundle, name=args.name, labels=labels)


async def make(
    client: Client, args: argparse.Namespace, request: Request, labels: dict[str, str]
) -> Created:
    """Create the container, pulling its image if need be; write its id where it was asked for."""
    from sampan.client.creation import create
    from sampan.client.host import HOST

    if args.image != HOST and getattr(args, "pull", "missing") != "never":
        from sampan.cli.image.pull import ensure

        always = args.pull == "always"
        await ensure(client, args.image, always=always, platform=args.platform, quiet=args.quiet)
    if args.cidfile:
        await to_thread(_refuse_existing, args.cidfile)
    created = await create(
        client,
        args.image,
        request,
        name=args.name,
        labels=labels,
        runtime=args.runtime,
        networking=flags.networking_of(args),
    )
    if created.warning:
        warn(created.warning)
    if args.cidfile:
        await to_thread(_write_new, args.cidfile, created.container.id)
    return created


class StartError(Exception):
    """The program could not be started."""

    def __init__(self, cause: SampanError) -> None:
        super().__init__(str(cause))
        self.cause = cause


async def detached(client: Client, container: Container, mounts: list[Mount]) -> None:
    """Start the container with its output going to its log, written by its shim."""
    from sampan.client.containers import Folder
    from sampan.client.creation import start_task
    from sampan.runtime import Stdio

    uri = _log_uri(Folder(client, container.id), container)
    tty = container.labels.get("sampan/tty") == "true"
    stdio = Stdio(stdout=uri, stderr="" if tty else uri, terminal=tty)
    try:
        await start_task(client, container, mounts, stdio)
        await client.tasks.start(container.id)
    except SampanError as err:
        await _drop_task(client, container.id)
        raise StartError(err) from err


async def attached(
    client: Client,
    container: Container,
    mounts: list[Mount],
    *,
    stdin: bool,
    terminal: bool,
    proxy: bool,
    remove: bool,
) -> int:
    """Start the container with our stdio, and return its exit status."""
    from sampan.cli.container.logs import Follower, watching
    from sampan.cli.container.session import Session
    from sampan.cli.streams import Streams
    from sampan.client.containers import Folder
    from sampan.client.creation import start_task
    from sampan.client.networking import release

    folder = Folder(client, container.id)
    # With --rm nothing shall stay, so output comes by fifo, byte for byte. Else the shim logs it
    # and we follow the log: killed, we lose none of it, and `logs` and `attach` work from anywhere.
    log_uri = _log_uri(folder, container)
    unlogged = remove or not log_uri
    follower = None if unlogged or terminal else Follower(folder.log)
    if follower is None:
        log_uri = ""
    elif "&max-size=" not in log_uri:
        log_uri += "&max-size=0"
    streams = Streams(folder.path / "io", stdin=stdin, terminal=terminal, log_uri=log_uri)
    streams.make()
    if follower is not None:
        follower.skip()
    # A terminal can be detached from, so its container may outlive us; others with --rm may not.
    owner_fd = os.pidfd_open(os.getpid()) if remove and not terminal else -1
    try:
        await start_task(client, container, mounts, streams.stdio, owner_fd=owner_fd)
        session = Session(
            client,
            container.id,
            streams,
            log=None if follower is not None or unlogged else folder.log,
            proxy=proxy,
            terminal=terminal,
        )
        session.connect()
        await session.resize()
        await client.tasks.start(container.id)
    except SampanError as err:
        await _drop_task(client, container.id)
        raise StartError(err) from err
    finally:
        if owner_fd >= 0:
            os.close(owner_fd)
    if follower is None:
        ended = await session.finish()
    else:
        async with asyncio.TaskGroup() as group:
            watch = group.create_task(watching(follower))
            ended = await session.finish()
            watch.cancel()
    if ended is None:
        sys.stderr.write("\r\ndetached\r\n")
        return 0
    streams.remove()
    if remove:
        await shielded(30, _discard(client, container))
    else:
        folder.write_exit(ended)
        await shielded(30, client.tasks.delete(container.id))
        await shielded(30, release(client, container))
    if follower is not None:
        follower.show(follower.new())
    return ended.status


def _log_uri(folder: Folder, container: Container) -> str:
    """Return where the shim writes output; empty is nowhere."""
    labels = container.labels
    if labels.get("sampan/log-driver") == "none":
        return ""
    uri = f"sampan-log://{quote(str(folder.log))}?format=json-file"
    for name in ("max-size", "max-file"):
        value = labels.get(f"sampan/log-{name}", "")
        uri += f"&{'max-files' if name == 'max-file' else name}={value}" if value else ""
    return uri


async def _discard(client: Client, container: Container) -> None:
    from sampan.client.containers import remove

    await remove(client, container, force=True, volumes=True)


async def _drop_task(client: Client, id: str) -> None:
    try:
        await shielded(30, client.tasks.delete(id, force=True))
    except NotFound:
        return


def _refuse_existing(path: str) -> None:
    if os.path.lexists(path):
        raise AlreadyExists(f"--cidfile {path} exists: remove it, or name another")


def _write_new(path: str, text: str) -> None:
    with open(path, "x", encoding="ascii") as file:
        file.write(text)
