"""`python -m bench [NAME...]`: measure, print a table of medians and ratios, write JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time

from bench.cases import RESULTS, Stage, every, needed
from bench.measure import Case
from sampan.testing import SESSION


def main() -> int:
    """Measure the cases whose name contains one of the arguments; all without arguments."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("name", nargs="*", help="part of a case's name")
    parser.add_argument("--rounds", type=int, help="samples of each program")
    options = parser.parse_args()
    if needed():
        print("bench needs", ", ".join(needed()), file=sys.stderr)
        return 1
    SESSION.isolate()
    stage = Stage()
    done: list[Case] = []
    print(f"{'':34}{'ours':>12}{'peer':>12}{'ratio':>8}{'bar':>6}")
    try:
        for case in every(stage):
            if options.name and not any(part in case.name for part in options.name):
                continue
            case.rounds = options.rounds or case.rounds
            case.run()
            done.append(case)
            print(line(case), flush=True)
    finally:
        stage.close()
    RESULTS.write_text(json.dumps(report(done), indent=1) + "\n")
    print(f"all samples: {RESULTS}")
    return 0


def line(case: Case) -> str:
    """Return a case's row of the table, and the other programs' medians after it."""
    ratio = case.ratio()
    shown = [f"{case.median(name):9.2f} {case.unit:2}" if name in case.results else f"{'-':>12}"
             for name in (case.ours, case.peer)]  # fmt: skip
    others = [
        f"{name} {case.median(name):.2f}"
        for name in case.results
        if name not in (case.ours, case.peer)
    ]
    bar = "" if case.bar is None else f"{case.bar:.2f}"
    ratio_text = "-" if ratio is None else f"{ratio:.2f}"
    return f"{case.name:34}{''.join(shown)}{ratio_text:>8}{bar:>6}  {', '.join(others)}"


def report(cases: list[Case]) -> dict[str, object]:
    """Return what is written: the machine, and every sample."""
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "cases": [case.as_json() for case in cases],
    }


if __name__ == "__main__":
    sys.exit(main())
