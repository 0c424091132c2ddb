"""Memory: PSS for each idle container, daemon, zygote and shims together; and of an idle daemon."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

from bench.api import Api
from bench.daemons import containerd, sampand
from bench.images import SMALL, chain_id, publish, pull
from bench.measure import Row
from bench.stage import Stage
from sampan.testing import SESSION
from sampan.testing.registry import DockerRegistry


def rows(stage: Stage) -> Iterator[Row]:
    count = 20 if stage.options.quick else 105
    settle_s = 5 if stage.options.quick else 60
    idle: dict[str, list[float]] = {}
    each: dict[str, list[float]] = {}
    parts: dict[str, dict[str, float]] = {}
    cpu: dict[str, list[float]] = {}
    with ExitStack() as stack:
        registry = stack.enter_context(DockerRegistry(SESSION.new_folder()))
        reference = publish(registry, "small-too", (SMALL,))
        for run in (sampand, containerd):
            with run() as daemon:
                pull(daemon, reference)
                with Api(daemon.socket, chain_id("small-too")) as api:
                    api.life()
                    time.sleep(settle_s / 2)
                    before, used = daemon.pss_mib(), daemon.cpu_s()
                    ids = [api.idle() for _ in range(count)]
                    cpu[daemon.name] = [daemon.cpu_s() - used]
                    time.sleep(settle_s)
                    after = daemon.pss_mib()
                    parts[daemon.name] = daemon.pss_by_name()
                    for one in ids:
                        api.end(one)
            idle[daemon.name] = [before]
            each[daemon.name] = [(after - before) / count]
    yield Row(
        f"PSS a container, {count} idle",
        "MiB",
        "sampand",
        "containerd",
        each,
        limit=1.2,
        note=_parts(parts["sampand"]),
    )
    yield Row("PSS of the idle daemon, zygote included", "MiB", "sampand", "containerd", idle,
              limit=50)  # fmt: skip
    yield Row(f"CPU time to start {count} containers", "s", "sampand", "containerd", cpu, 0.5)


def _parts(parts: dict[str, float]) -> str:
    return ", ".join(f"{name} {mib:.2f}" for name, mib in parts.items())
