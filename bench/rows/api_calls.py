"""Through the containerd API with one plain gRPC client: sampand, and containerd with runc."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from bench.api import PARTS, Api
from bench.daemons import containerd, sampand
from bench.images import SMALL, chain_id, publish, pull
from bench.measure import Figures, Interleaved, Row, Sample
from bench.stage import Stage
from sampan.testing import SESSION
from sampan.testing.registry import DockerRegistry

_AT_ONCE = 8


def rows(stage: Stage) -> Iterator[Row]:
    with ExitStack() as stack:
        registry = stack.enter_context(DockerRegistry(SESSION.new_folder()))
        reference = publish(registry, "small", (SMALL,))
        clients = {}
        for run in (sampand, containerd):
            daemon = stack.enter_context(run())
            pull(daemon, reference)
            clients[daemon.name] = stack.enter_context(Api(daemon.socket, chain_id("small")))
        yield from _lives(stage, clients)
        yield _rate(stage, clients)
        yield _execs(stage, clients)


def _lives(stage: Stage, clients: dict[str, Api]) -> Iterator[Row]:
    samples: dict[str, Sample] = {name: api.life for name, api in clients.items()}
    done = Interleaved(samples, stage.options.count(30), warmups=2).run()
    for name, figure in (("create to running", "running"), ("whole life", "life")):
        taken = done.taken(figure)
        yield Row(f"API: {name}", "ms", "sampand", "containerd", taken, 1 / 3)
    for part in PARTS:
        yield Row(f"  of it {part}", "ms", "sampand", "containerd", done.taken(part))


def _rate(stage: Stage, clients: dict[str, Api]) -> Row:
    lives = 24 if stage.options.quick else 80

    def bound(api: Api) -> Sample:
        def take() -> Figures:
            began = time.perf_counter()
            with ThreadPoolExecutor(_AT_ONCE) as pool:
                for _ in pool.map(lambda _: api.life(), range(lives)):
                    pass
            return {"rate": lives / (time.perf_counter() - began)}

        return take

    samples = {name: bound(api) for name, api in clients.items()}
    done = Interleaved(samples, stage.options.count(3, 2), warmups=0).run()
    name = f"API: lives a second, {_AT_ONCE} in parallel"
    return Row(name, "/s", "sampand", "containerd", done.taken("rate"), 3.0, higher=True)


def _execs(stage: Stage, clients: dict[str, Api]) -> Row:
    containers = {name: api.idle() for name, api in clients.items()}

    def bound(name: str) -> Callable[[], Figures]:
        return lambda: clients[name].exec(containers[name])

    samples = {name: bound(name) for name in clients}
    try:
        done = Interleaved(samples, stage.options.count(40), warmups=2).run()
    finally:
        for name, one in containers.items():
            clients[name].end(one)
    return Row("API: exec", "ms", "sampand", "containerd", done.taken("exec"), 0.25)
