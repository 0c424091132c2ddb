"""`sampan top`: the container's processes, by their pids on the host."""

from __future__ import annotations

import argparse

from sampan.cli.app import App
from sampan.client.containers import find
from sampan.concurrency import run as run_program

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("container")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="for ps(1); default -ef")


async def run(app: App, args: argparse.Namespace) -> int:
    async with app.client() as client:
        pids = set(await client.tasks.pids((await find(client, args.container)).id))
    done = await run_program(["ps", *(args.options or ["-ef"])])
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    column = lines[0].split().index("PID") if lines and "PID" in lines[0] else 1
    print(lines[0] if lines else "")
    for line in lines[1:]:
        fields = line.split()
        if len(fields) > column and fields[column].isdigit() and int(fields[column]) in pids:
            print(line)
    return 0
