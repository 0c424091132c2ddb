"""Lists, filters and formats; update; what completes; what df, doctor and history say."""

import json

from .conftest import Sampan


def test_ps_filters_and_formats(sampan: Sampan) -> None:
    sampan("create", "--name", "first", "-l", "tier=db", "host:", "true").ok()
    sampan("create", "--name", "second", "-l", "tier=web", "host:", "sh", "-c", "exit 3").ok()
    assert sampan("start", "-a", "second").status == 3

    def names(*filters: str) -> list[str]:
        flags = [word for text in filters for word in ("-f", text)]
        return sorted(sampan("ps", "-a", *flags, "--format", "{{.Names}}").ok().split())

    assert names() == ["first", "second"]
    assert names("label=tier=db") == ["first"]
    assert names("label=tier") == ["first", "second"]
    assert names("name=seco") == ["second"]
    assert names("status=created") == ["first"]
    assert names("status=created", "status=exited") == ["first", "second"]
    assert names("exited=3") == ["second"]
    assert names("exited=4") == []
    assert names("ancestor=host:", "name=first") == ["first"]
    assert names("before=second") == ["first"]
    assert names("since=first") == ["second"]
    assert sampan("ps", "-l", "--format", "{{.Names}} {{.Status}}").ok().startswith("second Exited")
    assert sampan("ps", "-a", "-f", "colour=red").status == 1
    assert sampan("ps", "-a", "-f", "status=flying").status == 1
    table = sampan("ps", "-a", "--format", "table {{.Names}}\t{{.State}}").ok().splitlines()
    assert table[0].split() == ["NAMES", "STATE"]
    assert sampan("ps", "-as").ok().splitlines()[0].split()[-1] == "SIZE"
    assert json.loads(sampan("ps", "-n", "1", "--format", "json").ok())["Names"] == "second"


def test_inspect_takes_a_template(sampan: Sampan) -> None:
    flags = ("--memory", "64m", "--cpus", "0.5", "-v", "data:/data", "--ulimit", "nofile=99:100")
    sampan("create", "--name", "c", *flags, "host:", "true").ok()
    form = "{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{range .Mounts}}{{.Name}}{{end}}"
    assert sampan("inspect", "-f", form, "c").ok() == "67108864 500000000 data\n"
    limits = sampan("inspect", "-f", "{{json .HostConfig.Ulimits}}", "c").ok()
    assert json.loads(limits) == [{"type": "RLIMIT_NOFILE", "hard": 100, "soft": 99}]


def test_update_reaches_the_kernel_and_the_next_start(sampan: Sampan) -> None:
    sampan("run", "-d", "--name", "c", "--memory", "64m", "host:", "sleep", "600").ok()
    sampan("update", "--memory", "96m", "--pids-limit", "50", "c").ok()
    stats = sampan("stats", "--no-stream", "c").ok()
    assert "101MB" in stats, stats
    sampan("stop", "-t", "0", "c").ok()
    form = "{{.HostConfig.Memory}} {{.HostConfig.PidsLimit}}"
    assert sampan("inspect", "-f", form, "c").ok() == f"{96 << 20} 50\n"
    assert sampan("update", "--memory", "1k", "c").status == 1
    assert sampan("update", "c").status == 1


def test_container_prune_asks_first(sampan: Sampan) -> None:
    sampan("create", "--name", "c", "host:", "true").ok()
    assert "-f" in sampan("container", "prune").stderr
    assert len(sampan.containers()) == 1
    sampan("container", "prune", "-f").ok()
    assert sampan.containers() == []


def test_history_and_df(sampan: Sampan, small: str) -> None:
    rows = [
        json.loads(line)
        for line in sampan("history", small, "--format", "json").ok().split("\n")
        if line
    ]
    assert [row["CreatedBy"] for row in rows] == ["sampan image from-host"]
    kinds = {
        row["Type"]: row
        for row in map(json.loads, sampan("system", "df", "--format", "json").ok().splitlines())
    }
    assert kinds["Images"]["TotalCount"] == 1
    assert kinds["Images"]["Size"] != "0B"
    assert (
        sampan("image", "inspect", "-f", "{{index .RepoTags 0}}", small)
        .ok()
        .endswith("t/small:1\n")
    )


def test_completion_knows_verbs_flags_and_names(sampan: Sampan) -> None:
    sampan("create", "--name", "boat", "host:", "true").ok()

    def found(*words: str) -> list[str]:
        return sampan("__complete", *words).ok().split()

    assert {"run", "ps", "volume", "image"} <= set(found(""))
    assert found("volume", "") == ["create", "inspect", "list", "ls", "prune", "remove", "rm"]
    assert {"--memory", "--publish", "-v"} <= set(found("run", "-"))
    assert found("start", "") == ["boat"]
    assert found("run", "--pull", "") == ["always", "missing", "never"]
    for shell in ("bash", "zsh", "fish"):
        assert "__complete" in sampan("completion", shell).ok()
    assert sampan("completion", "cmd.exe").status == 1


def test_doctor_names_each_feature(sampan: Sampan) -> None:
    done = sampan("doctor", "--format", "json")
    found = {one["name"]: one for one in json.loads(done.stdout)}
    assert found["overlayfs"]["state"] == "ok"
    assert found["pid namespace"]["state"] == "ok"
    assert found["kernel"]["needed"] is True
    assert done.status == 0
    assert "isolation:" in sampan("doctor").ok()
