"""The OCI runtime: by command line as podman and docker use it, and warm as our shim does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from bench.measure import Figures, Interleaved, Row, Sample
from bench.stage import Stage, state_folder
from sampan.testing import Runtime
from sampan.zygote import Zygote


def rows(stage: Stage) -> Iterator[Row]:
    yield _run_cold(stage)
    yield _imports(stage)
    yield _life(stage)
    yield _exec_cold(stage)


def _run_cold(stage: Stage) -> Row:
    def sample(runtime: Runtime) -> Figures:
        bundle = stage.bundle()
        result = runtime.run(bundle, "true")
        assert result.returncode == 0, result.stderr
        return {"run": result.elapsed_s * 1000}

    done = _each(stage, sample, stage.options.count(30))
    return Row("sampan-oci run, cold", "ms", "sampan-oci", "runc", done.taken("run"), 1.0)


def _imports(stage: Stage) -> Row:
    def sample(code: str) -> Sample:
        def take() -> Figures:
            began = time.perf_counter()
            subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True)
            return {"start": (time.perf_counter() - began) * 1000}

        return take

    source = [path for path in sys.path if os.path.isdir(os.path.join(path, "sampan"))]
    loading = f"import sys; sys.path += {source!r}; import sampan.oci.main"
    programs = {"sampan.oci.main": sample(loading), "bare python": sample("pass")}
    done = Interleaved(programs, stage.options.count(40)).run()
    taken = done.taken("start")
    over = [a - b for a, b in zip(*(taken[name] for name in programs), strict=True)]
    return Row(
        "imports of sampan-oci over a bare interpreter", "ms", "over", "bare python",
        {"over": over, **taken}, limit=8.0,
    )  # fmt: skip


def _life(stage: Stage) -> Row:
    """Create, start, wait, delete: ours in a child of a zygote, peers by command line."""

    def ours() -> Figures:
        bundle = stage.bundle()
        bundle.write(bundle.with_changes(("true",)))
        given = {
            "rounds": 2,
            "root": str(state_folder()),
            "id": bundle.id,
            "bundle": str(bundle.path),
        }
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
        return {"life": took[-1]}

    def theirs(runtime: Runtime) -> Figures:
        bundle = stage.bundle()
        began = time.perf_counter()
        name = runtime.create(bundle, "true")
        runtime.start(name)
        runtime.wait(name)
        runtime.delete(name)
        return {"life": (time.perf_counter() - began) * 1000}

    with Zygote.start(preload=("sampan.oci", "bench.warm")) as zygote:
        done = _each(stage, theirs, stage.options.count(20), {"sampan, warm": ours})
    taken = done.taken("life")
    return Row("create+start+wait+delete, warm", "ms", "sampan, warm", "runc", taken, 0.2)


def _exec_cold(stage: Stage) -> Row:
    containers: dict[str, str] = {}
    for name, runtime in stage.runtimes.items():
        containers[name] = runtime.create(stage.bundle(), "sleep", "100000")
        runtime.start(containers[name])

    def sample(runtime: Runtime) -> Figures:
        result = runtime.exec(containers[runtime.name], "true")
        assert result.returncode == 0, result.stderr
        return {"exec": result.elapsed_s * 1000}

    done = _each(stage, sample, stage.options.count(30))
    for name, runtime in stage.runtimes.items():
        runtime.kill(containers[name])
        runtime.wait(containers[name])
        runtime.delete(containers[name])
    return Row("sampan-oci exec, cold", "ms", "sampan-oci", "runc", done.taken("exec"))


def _each(
    stage: Stage,
    sample: Callable[[Runtime], Figures],
    rounds: int,
    more: dict[str, Sample] | None = None,
) -> Interleaved:
    def bound(runtime: Runtime) -> Sample:
        return lambda: sample(runtime)

    programs = dict(more or {})
    programs |= {name: bound(runtime) for name, runtime in stage.runtimes.items()}
    return Interleaved(programs, rounds).run()
