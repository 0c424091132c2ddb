"""`python -m bench`: measure, print a table of medians and ratios, write JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

from bench.measure import Row
from bench.stage import Options, Stage
from sampan.testing import SESSION, missing

GROUPS = ("runtime", "shim", "sandbox", "api_calls", "pull", "memory", "inside")
RESULTS = Path(__file__).with_name("results.json")
_NEEDS = {
    "api_calls": ("containerd", "ctr", "docker-registry", "skopeo", "module:grpc"),
    "pull": ("containerd", "ctr", "docker-registry", "skopeo", "module:grpc"),
    "memory": ("containerd", "ctr", "docker-registry", "skopeo", "module:grpc"),
}


def main() -> int:
    """Return 0 when everything could be measured: a bar that is missed is no error."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few rounds, 20 containers, 80 MB")
    parser.add_argument("--only", action="append", choices=GROUPS, help="a group; may be repeated")
    parser.add_argument("--rounds", type=int, default=0, help="samples of each program")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where to write the JSON")
    flags = parser.parse_args()
    if absent := missing("root", "busybox", "runc"):
        print("bench needs", ", ".join(absent), file=sys.stderr)
        return 1
    SESSION.isolate()
    machine = _machine()
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    stage = Stage(Options(flags.quick, flags.rounds))
    done: list[Row] = []
    failed: dict[str, str] = {}
    try:
        for name, why in stage.refused.items():
            print(f"{name} is left out: {why}")
        print(f"{'':46}{'ours':>12}{'peer':>12}{'ratio':>8}  {'bar':8}")
        for row in _rows(stage, flags.only or GROUPS, failed):
            done.append(row)
            print(_line(row), flush=True)
    finally:
        stage.close()
    for group, why in failed.items():
        print(f"{group} was not measured: {why}", file=sys.stderr)
    machine["load afterwards"] = _load()
    flags.output.write_text(
        json.dumps(
            {
                "machine": machine,
                "quick": flags.quick,
                "left out": stage.refused,
                "failed": failed,
                "rows": [row.as_json() for row in done],
            },
            indent=1,
        )
        + "\n"
    )
    print(f"load afterwards {_load()}; all samples: {flags.output}")
    return 1 if failed else 0


def _rows(stage: Stage, groups: tuple[str, ...], failed: dict[str, str]) -> Iterator[Row]:
    """Measure each group; one that fails does not take the others with it."""
    for group in groups:
        if absent := missing(*_NEEDS.get(group, ())):
            failed[group] = "needs " + ", ".join(absent)
            continue
        make: Callable[[Stage], Iterator[Row]] = import_module(f"bench.rows.{group}").rows
        try:
            yield from make(stage)
        except Exception as err:  # noqa: BLE001 - told at the end, and in the exit status
            traceback.print_exc()
            failed[group] = str(err) or type(err).__name__


def _line(row: Row) -> str:
    """Return a row of the table; the spread of ours and the other programs' medians after it."""
    ratio = row.ratio()
    shown = "".join(
        f"{row.median(name):9.2f} {row.unit:2}" if row.samples.get(name) else f"{'-':>12}"
        for name in (row.ours, row.peer)
    )
    if row.limit is not None:
        bar = f"{row.limit:g} {row.unit}"
    else:
        bar = "" if row.bar is None else f"{row.bar:.2f}"
    verdict = {True: "reached", False: "MISSED", None: ""}[row.reached()]
    taken = row.samples[row.ours]
    parts = [f"{row.ours} {min(taken):.2f}..{max(taken):.2f}"] if len(taken) > 1 else []
    parts += [
        f"{name} {row.median(name):.2f}"
        for name in row.samples
        if name not in (row.ours, row.peer) and row.samples[name]
    ]
    parts += [row.note] if row.note else []
    text = "" if ratio is None else f"{ratio:.2f}"
    return f"{row.name:46}{shown}{text:>8}  {bar:8} {verdict:8} {'; '.join(parts)}".rstrip()


def _machine() -> dict[str, str]:
    cpu = next(
        (line.partition(": ")[2] for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")), platform.machine(),
    )  # fmt: skip
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "processors": f"{os.cpu_count()} x {cpu}",
        "load": _load(),
    }


def _load() -> str:
    return " ".join(f"{one:.2f}" for one in os.getloadavg())


if __name__ == "__main__":
    sys.exit(main())
