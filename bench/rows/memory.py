"""Memory: PSS for each idle container, daemon, zygote and shims together; and of an idle daemon."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from bench.api import Api
from bench.daemons import containerd, pss_kib, sampand
from bench.images import SMALL, chain_id, publish, pull
from bench.measure import Row
from bench.stage import Stage, state_folder
from sampan.testing import SESSION, Bundle
from sampan.testing.registry import DockerRegistry
from sampan.testing.rootfs import build_busybox_rootfs, copy_rootfs
from sampan.testing.shims import Shims


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
    yield from _shims(stage.options.quick)
    yield Row("PSS of the idle daemon, zygote included", "MiB", "sampand", "containerd", idle,
              limit=50)  # fmt: skip
    yield Row(f"CPU time to start {count} containers", "s", "sampand", "containerd", cpu, 0.5)


def _parts(parts: dict[str, float]) -> str:
    return ", ".join(f"{name} {mib:.2f}" for name, mib in parts.items())


def _shims(quick: bool) -> Iterator[Row]:
    """Shims alone, without a daemon: what the fork saves."""
    taken: dict[str, list[float]] = {}
    forked, executed = (20, 5) if quick else (105, 50)
    for entry, count in (("fork", forked), ("exec", executed)):
        folder = state_folder()
        with Shims(entry, folder) as shims:
            zygote = [shims.zygote.pid] if shims.zygote is not None else []
            before = _pss_mib(zygote)
            started = []
            for _ in range(count):
                bundle = Bundle(SESSION.new_folder(), SESSION.unique_name("idle"))
                copy_rootfs(build_busybox_rootfs(SESSION.folder / "rootfs"), bundle.path / "rootfs")
                shim = shims.start(bundle)
                shim.launch(bundle, "sleep", "100000")
                started.append(shim.pid)
            time.sleep(4)
            taken[entry] = [(_pss_mib(zygote + started) - before) / count]
    note = f"{forked} forked, {executed} exec'd"
    yield Row("PSS a shim with an idle container", "MiB", "fork", "exec", taken, note=note)


def _pss_mib(pids: list[int]) -> float:
    """Return the memory of processes and of their children of ours."""
    total = 0
    for pid in pids:
        total += pss_kib(pid)
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        names = {int(each): Path(f"/proc/{each}/comm").read_text() for each in children}
        total += sum(pss_kib(each) for each, name in names.items() if name.startswith("sampan-t"))
    return total / 1024
