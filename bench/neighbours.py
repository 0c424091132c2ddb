"""Noisy neighbours: what a victim loses beside one that takes all it can, and beside a limited one.

    python bench/neighbours.py [--rounds 5]

Each round measures the victim alone, beside an unlimited neighbour, and beside a limited one, in
turn, for each resource; printed are medians of the time that the victim's work took, as ratios to
alone. Needs root, busybox, and sampan-oci or another runtime (--runtime runc).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from sampan.testing.bundle import default_config
from sampan.testing.rootfs import build_busybox_rootfs

BUSY = "for i in 1 2 3 4; do while :; do :; done & done; wait"
CACHE = "while :; do dd if=/dev/zero of=/big bs=1M count=400 2>/dev/null; cat /big >/dev/null; done"
WRITE = "while :; do dd if=/dev/zero of=/io bs=1M count=64 oflag=direct 2>/dev/null; done"
FORKS = "f() { sleep 1 & }; while :; do f; done 2>/dev/null"
WORK = {
    "cpu": "i=0; while [ $i -lt 150000 ]; do i=$((i+1)); done",
    "memory": "dd if=/dev/zero of=/dev/shm/x bs=1M count=48 2>/dev/null; cat /dev/shm/x >/dev/null",
    "io": "dd if=/dev/zero of=/file bs=1M count=24 oflag=direct 2>/dev/null",
    "pids": "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do /bin/true; done",
}


def limits(device: str) -> dict[str, tuple[str, dict[str, Any], dict[str, Any]]]:
    """Return what the neighbour runs, its limits in the bad case, and those in the good one."""
    major, minor = map(int, device.split(":"))
    throttle = [{"major": major, "minor": minor, "rate": 1 << 20}]
    return {
        "cpu": (BUSY, {}, {"cpu": {"quota": 20_000, "period": 100_000}}),
        "memory": (CACHE, {}, {"memory": {"limit": 48 << 20}, "cpu": {"quota": 50_000}}),
        "io": (WRITE, {}, {"blockIO": {"throttleWriteBpsDevice": throttle}}),
        "pids": (FORKS, {"pids": {"limit": 2000}}, {"pids": {"limit": 16}}),
    }


class Container:
    """One that runs until it is deleted."""

    def __init__(self, runtime: str, folder: Path, name: str, script: str, resources: Any) -> None:
        self.runtime, self.name = runtime, name
        self.path = folder / name
        self.path.mkdir(exist_ok=True)
        if not (self.path / "rootfs").exists():
            build_busybox_rootfs(self.path / "rootfs")
        config = default_config(("sh", "-c", script), cgroup=f"/{name}-{os.getpid()}")
        config["linux"]["resources"].update(resources)
        for mount in config["mounts"]:
            if mount["destination"] == "/dev/shm":
                mount["options"] = ["mode=1777", "size=512m"]
        (self.path / "config.json").write_text(json.dumps(config))
        command = [runtime, "run", "-d", "--bundle", str(self.path), f"{name}-{os.getpid()}"]
        subprocess.run(
            command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def exec(self, script: str) -> float:
        began = time.perf_counter()
        command = [self.runtime, "exec", f"{self.name}-{os.getpid()}", "sh", "-c", script]
        subprocess.run(command, check=True, timeout=120, stdout=subprocess.DEVNULL)
        return time.perf_counter() - began

    def close(self) -> None:
        subprocess.run([self.runtime, "delete", "-f", f"{self.name}-{os.getpid()}"], check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--runtime", default=str(Path(sys.executable).with_name("sampan-oci")))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="sampan-noise-", dir="/var/tmp") as name:
        folder = Path(name)
        info = os.stat(folder)
        device = f"{os.major(info.st_dev)}:{os.minor(info.st_dev)}"
        victim = Container(given.runtime, folder, "victim", "sleep 100000", {})
        try:
            for resource, (noise, bad, good) in limits(device).items():
                times: dict[str, list[float]] = {"alone": [], "unlimited": [], "limited": []}
                for _ in range(given.rounds):
                    times["alone"].append(victim.exec(WORK[resource]))
                    for kind, resources in (("unlimited", bad), ("limited", good)):
                        neighbour = Container(given.runtime, folder, "noise", noise, resources)
                        time.sleep(0.3)
                        times[kind].append(victim.exec(WORK[resource]))
                        neighbour.close()
                medians = {kind: statistics.median(values) for kind, values in times.items()}
                print(json.dumps({
                    "resource": resource,
                    "alone_ms": round(medians["alone"] * 1000, 1),
                    "unlimited": round(medians["unlimited"] / medians["alone"], 2),
                    "limited": round(medians["limited"] / medians["alone"], 2),
                }), flush=True)  # fmt: skip
        finally:
            victim.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
