"""The daemon's life: what is started, in which order, and ended in the opposite one.

    sockets ─► engine (zygote warming) ─► ttrpc events ─► tasks recovered ─► gRPC, metrics, debug
    ─► READY=1 ─► collector, restart monitor, reloads ─► a signal ─► STOPPING=1 ─► all back again

Clients may connect from the first step on; they wait in the socket's queue.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import Any

from grpclib.server import Server

from sampan.concurrency import to_thread
from sampan.daemon import debug, logs, metrics, tracing
from sampan.daemon.calls import CallMetrics, Watcher, watch
from sampan.daemon.handlers import handlers
from sampan.daemon.http import serving_http
from sampan.daemon.notify import listen_fds, notify
from sampan.daemon.place import take_place
from sampan.daemon.served import instances
from sampan.daemon.servers import activated, bind, serving, tcp
from sampan.daemon.stacks import stacks
from sampan.engine import Engine, Settings, schema, section
from sampan.engine.restart import Monitor
from sampan.engine.sinks import deliver
from sampan.errors import SampanError
from sampan.metadata.scheduler import GcConfig
from sampan.plugin import Instance
from sampan.runtime.publish import publishing

__all__ = ["serve"]

log = logging.getLogger(__name__)


class _Signals:
    """What signals ask for, as events of the loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.stop = asyncio.Event()
        self.reload = asyncio.Event()
        self.report = asyncio.Event()
        self._loop = loop
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop.set)
        loop.add_signal_handler(signal.SIGHUP, self.reload.set)
        # Not through the loop: stacks are wanted most when it is stuck.
        signal.signal(signal.SIGUSR1, self._stacks)

    def _stacks(self, *_: object) -> None:
        # The log may be interrupted in the middle of a line, and refuses to be entered again.
        with suppress(RuntimeError):
            log.warning("stacks, as SIGUSR1 asks:\n%s", stacks(self._loop))
        self._loop.call_soon_threadsafe(self.report.set)


async def serve(settings: Settings, again: Callable[[], Settings]) -> None:
    """Serve until told to stop.

    Args:
      settings: How.
      again: Reads the configuration anew.

    Raises:
      SampanError: it cannot start.
    """
    signals = _Signals(asyncio.get_running_loop())
    await to_thread(take_place, settings)
    settings.state.mkdir(mode=0o711, parents=True, exist_ok=True)
    environ = os.environ
    given = activated(listen_fds(environ, os.getpid()), settings.address)
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environ.pop(name, None)
    listener = section(settings, schema.GRPC, schema.Listener)
    with given or bind(settings.address, listener) as sock:
        async with AsyncExitStack() as stack:
            engine = await stack.enter_async_context(Engine.open(settings, warm=True, publish=True))
            events = await publishing(engine.events, str(settings.ttrpc))
            stack.push_async_callback(events.close)
            alive = await engine.tasks.recover()
            opt = section(settings, _OPT, schema.Opt).path
            plugins = [*engine.graph.instances, *instances(engine.graph.instances, opt)]
            _watch_over(engine)
            served = await handlers(engine, plugins)
            await stack.enter_async_context(_served(sock, served, engine, plugins))
            async with asyncio.TaskGroup() as group:
                background = [
                    group.create_task(one)
                    for one in (
                        _collecting(engine),
                        _reloading(engine, signals, again),
                        _reporting(engine, signals),
                        _disconnecting(engine),
                        engine.background(),
                    )
                ]
                log.info("serving: address=%s tasks=%d", settings.address, alive)
                notify(environ, "READY=1")
                await signals.stop.wait()
                notify(environ, "STOPPING=1")
                for one in background:
                    one.cancel()
    if given is None:
        settings.address.unlink(missing_ok=True)


@asynccontextmanager
async def _served(
    sock: Any, served: Sequence[Any], engine: Engine, plugins: Sequence[Instance]
) -> AsyncIterator[None]:
    """Open everything that others may connect to, and close it after the block."""
    settings = engine.settings
    async with AsyncExitStack() as stack:
        watchers: list[Watcher] = []
        if tracing.wanted(os.environ):
            tracer = await to_thread(tracing.Tracing, dict(os.environ))
            stack.push_async_callback(to_thread, tracer.close)
            watchers.append(tracer.watcher())
        calls = CallMetrics(
            histogram=section(settings, _HISTOGRAM, schema.GrpcPrometheus).grpc_histogram
        )
        scraped = section(settings, schema.METRICS, schema.Listener)
        if scraped.address:
            watchers.append(calls)
            routes = metrics.routes(engine, calls)
            await stack.enter_async_context(serving_http(scraped.address, routes))
        debugged = _debug_listener(settings)
        if debugged.address:
            await stack.enter_async_context(
                serving_http(
                    debugged.address,
                    debug.routes(engine, plugins),
                    uid=debugged.uid,
                    gid=debugged.gid,
                )
            )

        def prepare(server: Server, handlers_: Sequence[Any]) -> None:
            watch(server, handlers_, watchers)

        await stack.enter_async_context(serving(sock, served, prepare))
        over_tcp = section(settings, schema.GRPC_TCP, schema.TcpListener)
        await stack.enter_async_context(tcp(over_tcp, served, prepare))
        yield


def _watch_over(engine: Engine) -> None:
    """Let the engine do what only a daemon does: restart containers, tell sinks."""
    told = section(engine.settings, _RESTART, schema.Restart)
    if _RESTART not in engine.settings.disabled_plugins:
        monitor = Monitor(engine.metadata, engine.tasks, engine.events, told.interval)
        engine.in_background(monitor.run)
    sinks = engine.graph.all(_SINK)
    if sinks:
        engine.in_background(partial(deliver, engine.events, sinks))


_NETWORKS = "io.sampan.network.v1"
_OPT = "io.containerd.internal.v1.opt"
_RESTART = "io.containerd.monitor.container.v1.restart"
_SINK = "io.sampan.event-sink.v1"
_HISTOGRAM = "io.containerd.metrics.v1.grpc-prometheus"


def _debug_listener(settings: Settings) -> schema.Listener:
    """Return where the debug socket is; in our own configuration it is there unless disabled."""
    found = section(settings, schema.DEBUG, schema.Listener)
    if found.address or settings.foreign or schema.DEBUG in settings.disabled_plugins:
        return found
    return schema.Listener(address=str(settings.state / "debug.sock"), uid=-1, gid=-1)


async def _collecting(engine: Engine) -> None:
    told = section(engine.settings, schema.SCHEDULER, schema.Scheduler)
    config = GcConfig(
        pause_threshold=told.pause_threshold,
        deletion_threshold=told.deletion_threshold,
        mutation_threshold=told.mutation_threshold,
        schedule_delay=told.schedule_delay,
        startup_delay=told.startup_delay,
    )
    await engine.metadata.scheduler(config).run()


async def _reloading(engine: Engine, signals: _Signals, again: Callable[[], Settings]) -> None:
    """Read the configuration again whenever asked; a wrong one changes nothing."""
    while True:
        await signals.reload.wait()
        signals.reload.clear()
        notify(os.environ, f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            settings = await to_thread(again)
        except (SampanError, OSError):
            log.exception("configuration is not reloaded")
        else:
            for warning in settings.warnings:
                log.warning("%s", warning)
            logs.configure(settings.log_level, settings.log_format)
            await engine.reload(settings)
            log.info("configuration reloaded: file=%s", settings.config)
        notify(os.environ, "READY=1")


async def _disconnecting(engine: Engine) -> None:
    """Give back addresses and ports of those who died with the machine or with a killed process."""
    try:
        networks = engine.graph.one(_NETWORKS)
    except SampanError:
        return  # there is no such plugin, or it does not work here
    try:
        await networks.gc((), gone_only=True)
    except SampanError as err:
        log.warning("networks of the dead were not given back: %s", err)


async def _reporting(engine: Engine, signals: _Signals) -> None:
    """Write the states of all tasks to the log whenever asked."""
    while True:
        await signals.report.wait()
        signals.report.clear()
        try:
            for namespace, states in await debug.task_states(engine):
                for state in states:
                    log.warning(
                        "task, as SIGUSR1 asks: container=%s namespace=%s status=%s pid=%d",
                        state.id,
                        namespace,
                        state.status.name.lower(),
                        state.pid,
                    )
        except SampanError:
            log.exception("states of tasks are unknown")
