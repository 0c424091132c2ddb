"""What is measured: the figures of issue "the first voyage", point 8."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ParamSpec

from bench.measure import Case
from sampan.testing import SESSION, Bundle, Runtime, build_busybox_rootfs, missing
from sampan.testing.runtimes import ENTRIES
from sampan.zygote import Zygote

RUNTIMES = ("sampan-exec", "runc", "crun")


class Stage:
    """Bundles and runtimes in a folder of its own; `close` removes them."""

    def __init__(self) -> None:
        self.rootfs = build_busybox_rootfs(SESSION.folder / "rootfs")
        self.runtimes = {name: self.runtime(name) for name in RUNTIMES if self.works(name)}

    def runtime(self, name: str) -> Runtime:
        folder = SESSION.new_folder()
        return Runtime(name, ENTRIES[name](), folder)

    def works(self, name: str) -> bool:
        """Tell whether a runtime is here and can run a container on this machine at all."""
        if not name.startswith("sampan") and missing(name):
            return False
        runtime = self.runtime(name)
        try:
            return runtime.run(self.bundle(), "true").returncode == 0
        finally:
            runtime.close()

    def bundle(self) -> Bundle:
        bundle = Bundle(SESSION.new_folder(), SESSION.unique_name("bench"))
        bundle.rootfs.symlink_to(self.rootfs)
        bundle.config["root"]["path"] = str(self.rootfs)
        return bundle

    def close(self) -> None:
        for runtime in self.runtimes.values():
            runtime.close()
        SESSION.close()


def run_cold(stage: Stage) -> Case:
    """`run` of a trivial container by command line."""

    def sample(runtime: Runtime) -> float:
        result = runtime.run(stage.bundle(), "true")
        assert result.returncode == 0, result.stderr
        return result.elapsed_s * 1000

    samples = {name: _bound(sample, runtime) for name, runtime in stage.runtimes.items()}
    return Case("run, cold", "ms", "sampan-exec", "runc", 1.0, samples)


def life_warm(stage: Stage) -> Case:
    """Create, start, wait, delete: ours in a child of a zygote, peers by command line."""

    def ours() -> float:
        bundle = stage.bundle()
        bundle.write(bundle.with_changes(("true",)))
        root = SESSION.new_folder()
        given = {"rounds": 2, "root": str(root), "id": bundle.id, "bundle": str(bundle.path)}
        with tempfile.TemporaryFile() as out:
            worker = zygote.fork(
                "bench.warm:lives",
                json.dumps(given).encode(),
                stdio=(out.fileno(), out.fileno(), sys.stderr.fileno()),
            )
            with worker:
                assert worker.wait(30) == 0
            out.seek(0)
            took: list[float] = json.loads(out.read())
        return took[-1]

    def theirs(runtime: Runtime) -> float:
        bundle = stage.bundle()
        began = time.perf_counter()
        name = runtime.create(bundle, "true")
        runtime.start(name)
        runtime.wait(name)
        runtime.delete(name)
        return (time.perf_counter() - began) * 1000

    zygote = Zygote.start(preload=("sampan.oci", "bench.warm"))
    samples: dict[str, Callable[[], float]] = {"sampan-warm": ours}
    samples |= {name: _bound(theirs, runtime) for name, runtime in stage.runtimes.items()}
    return Case("create+start+wait+delete, warm", "ms", "sampan-warm", "runc", 0.2, samples)


def exec_cold(stage: Stage) -> Case:
    """`exec` of a trivial process by command line."""

    def sample(runtime: Runtime, container: str) -> float:
        result = runtime.exec(container, "true")
        assert result.returncode == 0, result.stderr
        return result.elapsed_s * 1000

    samples = {}
    for name, runtime in stage.runtimes.items():
        container = runtime.create(stage.bundle(), "sleep", "100000")
        runtime.start(container)
        samples[name] = _bound(sample, runtime, container)
    return Case("exec, cold", "ms", "sampan-exec", "runc", 1.0, samples)


def imports(stage: Stage) -> Case:
    """What our runtime's imports cost over a bare interpreter: the bar is 8 ms, not a ratio."""

    def sample(code: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
        return (time.perf_counter() - began) * 1000

    loading = f"import sys; sys.path[:] = {sys.path!r}; import sampan.oci.main"
    samples = {"sampan.oci.main": _bound(sample, loading), "bare python": _bound(sample, "pass")}
    return Case("imports of sampan-oci", "ms", "sampan.oci.main", "bare python", None, samples)


WORKLOADS = {
    "CPU": "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done",
    "memory": "dd if=/dev/zero of=/dev/null bs=64M count=16 2>/dev/null",
    "file I/O": "dd if=/dev/zero of=/tmp/f bs=4k count=20000 2>/dev/null; rm /tmp/f",
}


def workloads(stage: Stage) -> Iterator[Case]:
    """The same work inside and on the host, timed by the shell that does it (start excluded)."""
    timed = "read a b < /proc/uptime; {}; read c b < /proc/uptime; echo $a $c"

    def inside(script: str) -> float:
        return _seconds(
            stage.runtimes["sampan-exec"].run(stage.bundle(), "sh", "-c", script).stdout
        )

    def outside(script: str) -> float:
        command = ["busybox", "sh", "-c", script]
        return _seconds(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    for name, script in WORKLOADS.items():
        whole = timed.format(script)
        samples = {"inside": _bound(inside, whole), "host": _bound(outside, whole)}
        yield Case(f"{name}, inside and on the host", "s", "inside", "host", 1.02, samples, 15)


def _seconds(text: str) -> float:
    began, ended = map(float, text.split())
    return max(ended - began, 0.01)


P = ParamSpec("P")


def _bound(sample: Callable[P, float], *args: P.args, **kwargs: P.kwargs) -> Callable[[], float]:
    return lambda: sample(*args, **kwargs)


def every(stage: Stage) -> Iterator[Case]:
    """Return all cases, one at a time: each is run before the next is made."""
    for make in (run_cold, life_warm, exec_cold, imports):
        yield make(stage)
    yield from workloads(stage)


def needed() -> list[str]:
    """Return what is missing to measure at all."""
    return missing("root", "busybox", "runc") + ([] if shutil.which("sh") else ["sh"])


RESULTS = Path(__file__).with_name("results.json")
