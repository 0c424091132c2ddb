"""What runtime-spec 1.3 demands and no other file tests; docs/reference/runtime-spec.md has all."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sampan.testing import Bundle, Runtime, requires

pytestmark = requires("root", "busybox")
OURS = ("sampan-exec", "sampan-fork")


@pytest.fixture(params=OURS)
def ours(request: pytest.FixtureRequest, make_runtime: Callable[[str], Runtime]) -> Runtime:
    name: str = request.param
    return make_runtime(name)


def run(runtime: Runtime, bundle: Bundle, *command: str) -> str:
    result = runtime.run(bundle, *command)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_state_has_what_is_required(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["annotations"] = {"org.example.key": "value"}
    name = runtime.create(bundle, "sleep", "100")
    state = runtime.state(name)
    assert state["ociVersion"]
    assert state["id"] == name
    assert state["status"] == "created"
    assert state["pid"] == runtime.pid(name)
    assert Path(state["bundle"]).resolve() == bundle.path.resolve()
    assert state["annotations"] == {"org.example.key": "value"}
    runtime.start(name)
    assert runtime.state(name)["status"] == "running"
    runtime.kill(name)
    runtime.wait(name)
    assert runtime.state(name)["status"] == "stopped"
    runtime.delete(name)
    assert runtime.call("state", name).returncode != 0


def test_create_runs_nothing_of_the_user(runtime: Runtime, bundle: Bundle) -> None:
    name = runtime.create(bundle, "touch", "/ran")
    assert not (bundle.rootfs / "ran").exists()
    runtime.start(name)
    runtime.wait(name)
    assert (bundle.rootfs / "ran").exists()
    runtime.delete(name)


def test_later_changes_of_the_file_change_nothing(runtime: Runtime, bundle: Bundle) -> None:
    name = runtime.create(bundle, "touch", "/first")
    bundle.write(bundle.with_changes(("touch", "/second")))
    runtime.start(name)
    runtime.wait(name)
    assert (bundle.rootfs / "first").exists()
    assert not (bundle.rootfs / "second").exists()
    runtime.delete(name)


def test_operations_in_the_wrong_state_are_errors_without_effect(
    runtime: Runtime, bundle: Bundle
) -> None:
    for operation in (("start",), ("kill",), ("delete",), ("state",)):
        assert runtime.call(*operation, "no-such-container").returncode != 0
    name = runtime.create(bundle, "sleep", "100")
    runtime.start(name)
    assert runtime.call("start", name).returncode != 0
    assert runtime.call("delete", name).returncode != 0
    assert runtime.state(name)["status"] == "running"
    runtime.kill(name)
    runtime.wait(name)
    assert runtime.call("kill", name, "TERM").returncode != 0
    assert runtime.call("start", name).returncode != 0
    runtime.delete(name)


def test_unknown_fields_are_ignored(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["fromTheFuture"] = {"x": 1}
    bundle.process["alsoNew"] = [1, 2]
    bundle.linux["newToo"] = "y"
    assert run(runtime, bundle, "echo", "fine") == "fine\n"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("process.args", "text"),
        ("process.args", [1]),
        ("root.readonly", "yes"),
        ("linux.namespaces", {}),
        ("linux.resources.pids.limit", "many"),
        ("mounts", [{"destination": 5}]),
        ("hostname", 7),
    ],
)
def test_wrong_types_are_named_by_their_path(
    ours: Runtime, bundle: Bundle, path: str, value: object
) -> None:
    section = bundle.config
    *folders, last = path.split(".")
    for key in folders:
        section = section.setdefault(key, {})
    section[last] = value
    bundle.write(bundle.config)
    result = ours.call("run", "--bundle", str(bundle.path), bundle.id)
    assert result.returncode == 1
    assert "$." + path.split("[")[0] in result.stderr
    assert list(ours.root.iterdir()) == []


def test_the_default_nodes_and_links_are_there(runtime: Runtime, bundle: Bundle) -> None:
    """Section config-linux.md#default-devices, and runtime-linux.md#dev-symbolic-links."""
    script = (
        "cd /dev; stat -c '%n %t:%T' null zero full random urandom tty; "
        "for n in fd stdin stdout stderr ptmx; do readlink $n; done; test -c pts/ptmx && echo pts"
    )
    lines = run(runtime, bundle, "sh", "-c", script).split("\n")
    assert lines[:6] == ["null 1:3", "zero 1:5", "full 1:7", "random 1:8", "urandom 1:9", "tty 5:0"]
    assert lines[6:10] == [
        "/proc/self/fd", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"
    ]  # fmt: skip
    assert lines[10].endswith("pts/ptmx")
    assert lines[11] == "pts"


def test_nodes_asked_for_are_made(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["devices"] = [
        {"path": "/dev/mine", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 5,
         "gid": 6},
        {"path": "/dev/pipe", "type": "p", "fileMode": 0o600},
    ]  # fmt: skip
    output = run(runtime, bundle, "stat", "-c", "%F %a %u %g", "/dev/mine", "/dev/pipe")
    assert output.splitlines() == ["character special file 640 5 6", "fifo 600 0 0"]


def test_namespaces_not_listed_are_inherited(runtime: Runtime, bundle: Bundle) -> None:
    kinds = [n for n in bundle.linux["namespaces"] if n["type"] not in ("ipc", "network", "uts")]
    bundle.linux["namespaces"] = kinds
    del bundle.config["hostname"]
    bundle.config["mounts"] = [
        m for m in bundle.config["mounts"] if m["type"] not in ("sysfs", "mqueue")
    ]
    script = "for n in ipc net uts pid mnt; do readlink /proc/self/ns/$n; done"
    inside = run(runtime, bundle, "sh", "-c", script).split()
    outside = [os.readlink(f"/proc/self/ns/{n}") for n in ("ipc", "net", "uts", "pid", "mnt")]
    assert inside[:3] == outside[:3]
    assert set(inside[3:]).isdisjoint(outside[3:])


def test_the_same_namespace_twice_is_an_error(runtime: Runtime, bundle: Bundle) -> None:
    bundle.linux["namespaces"].append({"type": "pid"})
    assert runtime.run(bundle, "true").returncode != 0


@pytest.mark.parametrize("path", ["/not/there", "/proc/self/ns/uts", "/etc/passwd"])
def test_a_path_of_another_kind_is_an_error(ours: Runtime, bundle: Bundle, path: str) -> None:
    kinds = [n for n in bundle.linux["namespaces"] if n["type"] != "ipc"]
    bundle.linux["namespaces"] = [*kinds, {"type": "ipc", "path": path}]
    assert ours.run(bundle, "true").returncode != 0


def test_a_read_only_root_is_read_only(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["root"]["readonly"] = True
    result = runtime.run(bundle, "sh", "-c", "touch /x || echo refused; touch /run/x && echo fine")
    assert result.stdout.split() == ["refused", "fine"]


def test_mounts_are_made_in_order(runtime: Runtime, bundle: Bundle) -> None:
    for name in ("one", "two"):
        folder = bundle.path / name
        folder.mkdir()
        (folder / "file").write_text(name)
        bundle.mount("/data", "bind", str(folder), "bind")
    assert run(runtime, bundle, "cat", "/data/file") == "two"


def test_names_of_the_host(runtime: Runtime, bundle: Bundle) -> None:
    bundle.config["hostname"] = "boat"
    if runtime.ours:
        bundle.config["domainname"] = "harbour.example"
    output = run(runtime, bundle, "sh", "-c", "hostname; cat /proc/sys/kernel/domainname")
    assert output.split()[0] == "boat"
    assert not runtime.ours or output.split()[1] == "harbour.example"
    bundle.linux["namespaces"] = [n for n in bundle.linux["namespaces"] if n["type"] != "uts"]
    assert runtime.run(bundle, "true").returncode != 0


def test_read_only_paths_are_read_only(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.rootfs / "kept").mkdir()
    bundle.linux["readonlyPaths"] = ["/kept", "/not/there"]
    result = runtime.run(bundle, "sh", "-c", "touch /kept/x || echo refused; ls -d /kept")
    assert result.stdout.split() == ["refused", "/kept"]


def test_what_it_can_do_is_told(ours: Runtime) -> None:
    document = json.loads(ours.call("features").stdout)
    assert document["ociVersionMin"] <= "1.0.2" <= document["ociVersionMax"]
    assert set(document["hooks"]) >= {"prestart", "createRuntime", "poststop"}
    assert {"rro", "idmap", "tmpcopyup", "rbind"} <= set(document["mountOptions"])
    linux = document["linux"]
    assert {"user", "time", "cgroup"} <= set(linux["namespaces"])
    assert linux["cgroup"]["systemd"] is True
    assert "SCMP_ACT_NOTIFY" in linux["seccomp"]["actions"]


def test_versions_beyond_ours_are_refused(ours: Runtime, bundle: Bundle) -> None:
    bundle.config["ociVersion"] = "2.0.0"
    result = ours.run(bundle, "true")
    assert result.returncode != 0
    assert "2.0.0" in result.stderr
