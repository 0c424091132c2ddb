"""`sampan exec`: a program more in a running container."""

from __future__ import annotations

import argparse
import json
import os
import secrets
from pathlib import Path

from sampan.cli import terminal
from sampan.cli.app import App, Quit
from sampan.cli.container.flags.process import environment
from sampan.cli.container.session import Session
from sampan.cli.exit import of_start
from sampan.cli.streams import Streams
from sampan.client.containers import Folder, find, view
from sampan.client.spec.capabilities import known
from sampan.client.spec.users import resolve
from sampan.concurrency import shielded
from sampan.errors import FailedPrecondition, InvalidArgument, SampanError
from sampan.model.runtime.defaults import capability_sets
from sampan.model.runtime.process import Box
from sampan.model.runtime.spec import parse_spec
from sampan.runtime import Stdio

__all__ = ["POSITIONAL", "configure", "run"]

POSITIONAL = 1


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-i", "--interactive", action="store_true", help="pass our stdin on")
    parser.add_argument("-t", "--tty", action="store_true", help="give it a terminal")
    parser.add_argument("-d", "--detach", action="store_true", help="do not wait")
    parser.add_argument(
        "-e", "--env", action="append", default=[], help="set a variable; a bare name takes ours"
    )
    parser.add_argument("-w", "--workdir", default="", help="working folder inside")
    parser.add_argument("-u", "--user", default="", help="who runs it, by name or number")
    parser.add_argument("--env-file", action="append", default=[], metavar="FILE", help="variables")
    parser.add_argument("--privileged", action="store_true", help="with every capability")
    parser.add_argument("container")
    parser.add_argument("args", nargs=argparse.REMAINDER)


async def run(app: App, args: argparse.Namespace) -> int:
    if not args.args:
        raise Quit(1, "exec: name a command after the container")
    async with app.client() as client:
        container = await find(client, args.container)
        seen = await view(client, container)
        if seen.state != "running" or seen.task is None:
            raise Quit(1, f"container {seen.name} is {seen.state}, not running: start it first")
        process = _process(args, container.spec.value, seen.task.pid)
        exec_id = secrets.token_hex(16)
        if args.detach:
            try:
                await client.tasks.exec(container.id, exec_id, process, Stdio(terminal=args.tty))
                await client.tasks.start(container.id, exec_id)
            except SampanError as err:
                raise Quit(of_start(err), " ".join(str(err).split())) from err
            return 0
        folder = Folder(client, container.id).path / f"exec-{exec_id}"
        streams = Streams(folder, stdin=args.interactive, terminal=args.tty)
        streams.make()
        try:
            await client.tasks.exec(container.id, exec_id, process, streams.stdio)
            await client.tasks.start(container.id, exec_id)
            session = Session(
                client, container.id, streams, exec_id=exec_id, proxy=False, terminal=args.tty
            )
            session.connect()
            ended = await session.finish()
            if ended is None:
                return 0
            await shielded(10, client.tasks.delete(container.id, exec_id))
            return ended.status
        except FailedPrecondition as err:
            raise Quit(of_start(err), " ".join(str(err).split())) from err
        except SampanError as err:
            raise Quit(of_start(err), " ".join(str(err).split())) from err
        finally:
            streams.remove()


def _size() -> Box | None:
    width, height = terminal.size()
    return Box(width=width, height=height) if width and height else None


def _process(args: argparse.Namespace, spec: bytes, pid: int) -> bytes:
    process = parse_spec(spec).process
    if process is None:
        raise InvalidArgument("the container's config.json has no process")
    user = process.user
    if args.user:
        # The live root, mounts and all; what is under it is resolved without leaving it.
        root = os.open(Path(f"/proc/{pid}/root"), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            user = resolve(args.user, root)
        finally:
            os.close(root)
    values = dict(pair.partition("=")[::2] for pair in process.env)
    if args.tty:
        values.setdefault("TERM", "xterm")
    values |= dict(pair.partition("=")[::2] for pair in environment(args.env, args.env_file))
    rights = capability_sets(known()) if args.privileged else process.capabilities
    new = process.replace(
        args=tuple(args.args),
        terminal=args.tty,
        console_size=_size() if args.tty else None,
        cwd=args.workdir or process.cwd,
        user=user,
        capabilities=rights,
        env=tuple(f"{name}={value}" for name, value in values.items()),
    )
    return json.dumps(new.to_json()).encode()
