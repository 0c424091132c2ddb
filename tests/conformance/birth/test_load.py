"""Many shims of one zygote, each with an idle container: memory, times, and a clean end.

The printed figures (`pytest -s`) decide nothing; the number, state and end of the shims do.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sampan.rpc.messages.types import Status
from sampan.testing import Bundle, requires
from sampan.testing.shims import Shim, Shims

pytestmark = requires("root", "busybox")

COUNT = 100 if os.environ.get("SAMPAN_SOAK") == "1" else 20


class Times:
    """Samples by name, in milliseconds."""

    def __init__(self) -> None:
        self._samples: dict[str, list[float]] = {}

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._samples.setdefault(name, []).append((time.perf_counter() - began) * 1e3)

    def __str__(self) -> str:
        return "\n".join(
            f"  {name:7} median {statistics.median(each):6.1f} ms, longest {max(each):6.1f} ms"
            for name, each in self._samples.items()
        )


def pss_kib(pid: int) -> int:
    """Return the proportional share of memory of a process."""
    rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("Pss:"))


def test_many_idle_shims(short_path: Path, make_bundle: Callable[[], Bundle]) -> None:
    times = Times()
    alive: list[tuple[Shim, str]] = []
    with Shims("fork", short_path) as shims:
        assert shims.zygote is not None
        alone_kib = pss_kib(shims.zygote.pid)
        for bundle in [make_bundle() for _ in range(COUNT)]:
            with times.of("shim"):
                shim = shims.start(bundle)
            with times.of("create"):
                shim.create(bundle, "sleep", "1000")
            with times.of("start"):
                shim.start(bundle.id)
            alive.append((shim, bundle.id))
        for shim, name in alive:
            with times.of("exec"):
                assert shim.run(name, "true") == (0, "")
        assert [shim.status(name) for shim, name in alive] == [Status.RUNNING] * COUNT
        assert len({shim.pid for shim, _ in alive}) == COUNT
        each_kib = sorted(pss_kib(shim.pid) for shim, _ in alive)
        total_kib = sum(each_kib) + pss_kib(shims.zygote.pid) - alone_kib
        for shim, name in alive:
            shim.kill(name)
            assert shim.wait(name).exit_status == 137
            with times.of("delete"):
                shim.delete(name)
    print(  # noqa: T201
        f"\n{COUNT} shims with an idle container each: PSS {total_kib / COUNT:.0f} KiB a container,"
        f" zygote's growth included; a shim's own {each_kib[0]} to {each_kib[-1]} KiB\n{times}"
    )
