"""Pull and unpack of a big image from docker-registry on loopback, by each command line.

Creating files costs both what the file system takes; on tmpfs the programs themselves show.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import ExitStack

from bench.daemons import Daemon, containerd, sampand
from bench.images import BIG_BYTES, BIG_FILES, big_groups, publish, pull, sampan
from bench.measure import Figures, Interleaved, Row, Sample
from bench.stage import Stage
from sampan.testing import SESSION
from sampan.testing.registry import DockerRegistry

_DAEMONS = (sampand, containerd)


def rows(stage: Stage) -> Iterator[Row]:
    part = 5 if stage.options.quick else 1
    with ExitStack() as stack:
        registry = stack.enter_context(DockerRegistry(SESSION.new_folder()))
        groups = big_groups(BIG_BYTES // part, BIG_FILES // part)
        reference = publish(registry, "big", groups)
        for where, bar in (("on disk", 0.5), ("on tmpfs", None)):
            with ExitStack() as inner:
                memory = where == "on tmpfs"
                daemons = [inner.enter_context(run(in_memory=memory)) for run in _DAEMONS]
                samples = {daemon.name: _bound(daemon, reference) for daemon in daemons}
                done = Interleaved(samples, stage.options.count(3, 2)).run()
            taken, note = done.taken("pull"), _size(groups)
            name = f"pull and unpack of two layers, {where}"
            yield Row(name, "s", "sampand", "containerd", taken, bar, note=note)


def _bound(daemon: Daemon, reference: str) -> Sample:
    def take() -> Figures:
        began = time.perf_counter()
        pull(daemon, reference)
        took = time.perf_counter() - began
        if daemon.name == "sampand":
            sampan(daemon, "rmi", reference)
            sampan(daemon, "system", "prune", "--force")
        else:
            daemon.ctr("images", "rm", "--sync", reference)
        return {"pull": took}

    return take


def _size(groups: tuple[tuple[str, ...], ...]) -> str:
    from bench.images import measure_tree

    sizes = [measure_tree(tree) for group in groups for tree in group]
    layout = SESSION.folder / "image-big"
    packed = sum(path.stat().st_size for path in (layout / "blobs/sha256").iterdir())
    index = json.loads((layout / "index.json").read_bytes())
    assert index["manifests"]
    return (
        f"{sum(size for size, _ in sizes) >> 20} MiB in {sum(count for _, count in sizes)} files,"
        f" {packed >> 20} MiB packed"
    )
