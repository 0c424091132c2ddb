"""Try several changes on copies of one file system, and keep the one that works."""

import sampan

with sampan.Sandbox("host:") as base:
    base.write("/data/numbers", "3\n1\n2\n")
    base.snapshot("clean")

    for command in ("sort", "sort -r", "no-such-program"):
        with base.fork() as trial:
            done = trial.run("sh", "-c", f"{command} /data/numbers > /data/result")
            outcome = trial.read("/data/result").split() if done.returncode == 0 else "failed"
            print(command, "->", outcome)

    base.run("rm", "-r", "/work")
    print([f"{change.kind} {change.path}" for change in base.diff("clean")])
    base.rollback("clean")
    print(base.read("/data/numbers"))
