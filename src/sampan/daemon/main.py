"""sampand: arguments and signals around an engine and its servers.

    sampand [--root DIR] [--state DIR] [--address SOCK] [--config FILE] [--hosts-dir DIR]
            [--log-level LEVEL]

SIGTERM and SIGINT stop the daemon; containers run on. SIGUSR1 writes all stacks to stderr.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any

from sampan import __version__
from sampan.concurrency import run
from sampan.daemon.notify import notify
from sampan.daemon.served import instances
from sampan.daemon.servers import bind, serving
from sampan.engine import Engine, Settings, resolve
from sampan.engine.config import LOG_LEVELS, NAMES
from sampan.errors import SampanError
from sampan.runtime.publish import publishing
from sampan.services.containers.service import ContainersService
from sampan.services.content.service import ContentService
from sampan.services.diff.service import DiffService
from sampan.services.events.service import EventsService
from sampan.services.images.service import ImagesService
from sampan.services.introspection.service import IntrospectionService
from sampan.services.leases.service import LeasesService
from sampan.services.namespaces.service import NamespacesService
from sampan.services.sandboxes.service import SandboxesService
from sampan.services.snapshots.service import SnapshotsService
from sampan.services.tasks.service import TasksService
from sampan.services.version.service import VersionService
from sampan.storage.diff.compare import WalkingComparer
from sampan.storage.diff.layers import LayerApplier

__all__ = ["main"]

log = logging.getLogger(__name__)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon until it is told to stop; return its exit status."""
    parser = argparse.ArgumentParser(prog="sampand", description="The container daemon of Sampan.")
    parser.add_argument("--version", action="version", version=f"sampand {__version__}")
    for name in NAMES:
        choices = LOG_LEVELS if name == "log_level" else None
        parser.add_argument(f"--{name.replace('_', '-')}", choices=choices, default=None)
    flags = vars(parser.parse_args(argv))
    try:
        settings = resolve(flags, os.environ)
        logging.basicConfig(
            level=settings.log_level.upper(),
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )
        # One line a header: nobody who asks for our debug messages means these.
        logging.getLogger("hpack").setLevel(logging.INFO)
        asyncio.run(_run(settings))
    except SampanError as err:
        sys.stderr.write(f"sampand: {err}\n")
        return 1
    return 0


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    signal.signal(signal.SIGUSR1, lambda *_: _stacks(loop))
    settings.state.mkdir(mode=0o711, parents=True, exist_ok=True)
    with bind(settings.address) as sock:
        # Who connects meanwhile waits in the socket's queue.
        async with Engine.open(settings, warm=True, publish=True) as engine:
            events = await publishing(engine.events, f"{settings.address}.ttrpc")
            try:
                alive = await engine.tasks.recover()
                async with serving(sock, await _handlers(engine)), asyncio.TaskGroup() as group:
                    collecting = group.create_task(engine.metadata.scheduler().run())
                    log.info("serving: address=%s tasks=%d", settings.address, alive)
                    notify(os.environ, "READY=1")
                    await stop.wait()
                    notify(os.environ, "STOPPING=1")
                    collecting.cancel()
            finally:
                await events.close()
        settings.address.unlink(missing_ok=True)


def _stacks(loop: asyncio.AbstractEventLoop) -> None:
    """Write where every thread and every task of the loop is; works while the loop is stuck.

    Not `faulthandler.register`: it walks the frames of threads that run, and may crash on them.
    """
    faulthandler.dump_traceback(all_threads=True)
    for task in asyncio.all_tasks(loop):
        task.print_stack(limit=5)


async def _handlers(engine: Engine) -> list[Any]:
    metadata = engine.metadata
    from grpclib.health.service import Health
    from grpclib.reflection.service import ServerReflection

    services: list[Any] = [
        ContainersService(metadata),
        ContentService(metadata),
        DiffService(
            LayerApplier(metadata.content, engine.run_worker), WalkingComparer(metadata.content)
        ),
        EventsService(engine.events),
        ImagesService(metadata),
        IntrospectionService(
            await engine.identity(), [*engine.graph.instances, *instances()], _features
        ),
        LeasesService(metadata),
        NamespacesService(metadata),
        SandboxesService(metadata),
        SnapshotsService(metadata),
        TasksService(metadata, engine.tasks),
        VersionService(),
        Health(),
    ]
    return ServerReflection.extend(services)


async def _features() -> bytes:
    """Return what our OCI runtime says of itself; it is never loaded in this process."""
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = await run(
        [sys.executable, "-P", "-m", "sampan.oci", "features"],
        env={**os.environ, "PYTHONPATH": path},
        timeout_s=10,
    )
    return done.check().stdout


if __name__ == "__main__":
    sys.exit(main())
