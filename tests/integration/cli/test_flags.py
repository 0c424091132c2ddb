"""Docker's further flags of `run`, as the kernel sees them."""

import json
from pathlib import Path

import pytest

from sampan.testing import requires

from .conftest import Sampan


def inside(sampan: Sampan, *flags: str, script: str) -> str:
    return sampan("run", "--rm", *flags, "host:", "sh", "-c", script).ok()


def test_limits_devices_and_sysctls(sampan: Sampan) -> None:
    flags = ("--ulimit", "nofile=512:600", "--device", "/dev/fuse:/dev/f:r", "--shm-size", "8m")
    more = ("--sysctl", "net.ipv4.ip_unprivileged_port_start=7", "--cpuset-cpus", "0")
    script = (
        "ulimit -Sn; ulimit -Hn; stat -c %t:%T /dev/f; df --output=size /dev/shm | tail -1;"
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start; nproc"
    )
    assert inside(sampan, *flags, *more, script=script).split() == [
        "512", "600", "a:e5", "8192", "7", "1",
    ]  # fmt: skip


def test_security_options(sampan: Sampan, tmp_path: Path) -> None:
    script = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status | cut -f2"
    assert inside(sampan, script=script).split() == ["0", "2"]
    unconfined = ("--security-opt", "no-new-privileges", "--security-opt", "seccomp=unconfined")
    assert inside(sampan, *unconfined, script=script).split() == ["1", "0"]
    profile = tmp_path / "profile.json"
    rules = [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "args": [], "includes": {}},
        {"name": "chmod", "action": "SCMP_ACT_ERRNO", "excludes": {"caps": ["CAP_CHOWN"]}},
    ]
    archs = [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}]
    profile.write_text(
        json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "archMap": archs, "syscalls": rules})
    )
    refused = f"seccomp={profile}"
    script = "touch /tmp/a; mkdir /tmp/x 2>&1; chmod 700 /tmp/a && echo allowed"
    said = inside(sampan, "--security-opt", refused, script=script)
    assert "not permitted" in said
    assert "allowed" in said


def test_privileged_is_what_it_says(sampan: Sampan) -> None:
    script = (
        "grep CapEff /proc/self/status | cut -f2; grep Seccomp: /proc/self/status | cut -f2;"
        "test -e /dev/fuse && echo device; test -w /sys/kernel && echo sys"
    )
    caps, seccomp, *rest = inside(sampan, "--privileged", script=script).split()
    assert int(caps, 16).bit_count() > 30
    assert (seccomp, rest) == ("0", ["device", "sys"])


def test_namespaces_of_another_container(sampan: Sampan) -> None:
    sampan("run", "-d", "--name", "one", "host:", "sleep", "600").ok()
    script = "readlink /proc/self/ns/pid; cat /proc/1/cmdline | tr '\\0' ' '"
    said = inside(sampan, "--pid", "container:one", script=script)
    assert "sleep 600" in said
    assert inside(sampan, "--pid", "host", script="test -d /proc/2 && echo host") == "host\n"
    assert sampan("run", "--rm", "--pid", "container:none", "host:", "true").status == 125


def test_init_reaps_orphans(sampan: Sampan) -> None:
    said = sampan("run", "--rm", "--init", "host:", "sh", "-c", "echo $$")
    if said.status == 125:
        pytest.skip(f"needs a small init: {said.stderr}")
    assert said.ok() != "1\n"


def test_labels_cid_and_annotations(sampan: Sampan, tmp_path: Path) -> None:
    file = tmp_path / "labels"
    file.write_text("# comment\na=b\n")
    cid = tmp_path / "cid"
    flags = ("--label-file", str(file), "--annotation", "x.y=z", "--cidfile", str(cid))
    sampan("create", "--name", "c", *flags, "host:", "true").ok()
    found = json.loads(sampan("inspect", "c").ok())[0]
    assert (found["Config"]["Labels"]["a"], found["Spec"]["annotations"]["x.y"]) == ("b", "z")
    assert cid.read_text() == found["Id"]
    assert "exists" in sampan("create", "--cidfile", str(cid), "host:", "true").stderr


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("--ulimit", "nofile"), "nofile"),
        (("--ulimit", "wings=1"), "wings"),
        (("--ulimit", "nofile=9:3"), "nofile"),
        (("--device", "/dev/none"), "/dev/none"),
        (("--device", "dev"), "dev"),
        (("--sysctl", "kernel.panic=1"), "kernel.panic"),
        (("--sysctl", "x"), "x"),
        (("--security-opt", "fly=1"), "fly"),
        (("--security-opt", "seccomp=/none"), "/none"),
        (("--memory", "1k"), "too small"),
        (("--memory-swap", "1g"), "memory"),
        (("--cpus", "1", "--cpu-quota", "5000"), "not both"),
        (("--mount", "type=fuse,dst=/x"), "type"),
        (("--mount", "type=bind,src=/usr,dst=/x,wet=1"), "wet"),
        (("-v", "/usr:/a", "-v", "/usr:/a"), "twice"),
        (("--network", "none", "--network", "host"), "combined"),
        (("--network", "none", "-p", "80"), "publish"),
        (("-p", "99999:1"), "99999"),
        (("-p", "1-3:5-6"), "length"),
        (("-p", "80/fly"), "fly"),
        (("--ip", "1.2.3"), "1.2.3"),
        (("--mac-address", "xx"), "xx"),
        (("--add-host", "x"), "x"),
        (("--restart", "often"), "often"),
        (("--restart", "always"), "--rm"),
        (("--log-driver", "pigeon"), "pigeon"),
        (("--log-opt", "colour=1"), "colour"),
        (("--userns", "auto"), "not there yet"),
        (("--oom-score-adj", "2000"), "2000"),
        (("--group-add", "nobody-there"), "nobody-there"),
    ],
)
def test_bad_flags_are_one_sentence(sampan: Sampan, flags: tuple[str, ...], says: str) -> None:
    done = sampan("run", "--rm", *flags, "host:", "true")
    assert done.status == 125, done
    assert done.stderr.count("\n") == 1
    assert says in done.stderr


@requires("busybox")
def test_mounts_by_their_long_form(sampan: Sampan, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("bound\n")
    flags = ("--mount", f"type=bind,src={tmp_path},dst=/in,readonly")
    more = ("--mount", "type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700", "--tmpfs", "/u:size=2m")
    script = (
        "cat /in/f; touch /in/g 2>/dev/null || echo ro; stat -c %a /t;df --output=size /u | tail -1"
    )
    assert inside(sampan, *flags, *more, script=script).split() == ["bound", "ro", "700", "2048"]
