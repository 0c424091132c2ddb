"""Mounts as users of runc know them: modes, links, flags kept and cleared, order, owners."""

import os
import stat
import subprocess
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


def options_of(output: str, point: str) -> set[str]:
    """Return the options of a mount as /proc/self/mountinfo has them."""
    for line in output.splitlines():
        fields = line.split()
        if fields[4] == point:
            return set(fields[5].split(","))
    raise AssertionError(f"{point} is not mounted:\n{output}")


def run(runtime: Runtime, bundle: Bundle, *command: str) -> str:
    result = runtime.run(bundle, *command)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_tmpfs_has_the_mode_of_its_folder(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.rootfs / "there").mkdir()
    (bundle.rootfs / "there").chmod(0o1711)
    bundle.mount("/there", "tmpfs", "tmpfs")
    bundle.mount("/asked", "tmpfs", "tmpfs", "mode=0700")
    assert run(runtime, bundle, "stat", "-c", "%a", "/there", "/asked") == "1711\n700\n"
    assert stat.S_IMODE((bundle.rootfs / "there").stat().st_mode) == 0o1711


def test_tmpcopyup_brings_what_was_there(runtime: Runtime, bundle: Bundle) -> None:
    folder = bundle.rootfs / "up"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub").chmod(0o750)
    (folder / "file").write_text("text\n")
    (folder / "file").chmod(0o640)
    (folder / "link").symlink_to("file")
    bundle.mount("/up", "tmpfs", "tmpfs", "tmpcopyup")
    script = "cat /up/link; stat -c '%a' /up/file /up/sub; echo new >/up/file"
    assert run(runtime, bundle, "sh", "-c", script) == "text\n640\n750\n"
    assert (folder / "file").read_text() == "text\n"


def test_made_folders_inherit_a_setgid_parent(runtime: Runtime, bundle: Bundle) -> None:
    parent = bundle.rootfs / "parent"
    parent.mkdir()
    os.chown(parent, 0, 1234)
    parent.chmod(0o2755)
    bundle.mount("/parent/made", "tmpfs", "tmpfs")
    run(runtime, bundle, "true")
    assert (parent / "made").stat().st_gid == 1234


def test_dangling_links_resolve_inside(runtime: Runtime, bundle: Bundle) -> None:
    (bundle.rootfs / "link").symlink_to("/not/yet")
    bundle.mount("/link/below", "tmpfs", "tmpfs", "size=4k")
    output = run(runtime, bundle, "cat", "/proc/self/mountinfo")
    assert options_of(output, "/not/yet/below")
    assert not Path("/not").exists()


def test_a_bind_keeps_flags_unless_they_are_cleared(runtime: Runtime, bundle: Bundle) -> None:
    source = bundle.path / "source"
    source.mkdir()
    flags = "nosuid,nodev,noexec,ro"
    subprocess.run(["mount", "-t", "tmpfs", "-o", flags, "t", str(source)], check=True)
    try:
        bundle.mount("/kept", "bind", str(source), "bind")
        bundle.mount("/changed", "bind", str(source), "bind", "dev", "exec", "rw")
        output = run(runtime, bundle, "cat", "/proc/self/mountinfo")
    finally:
        subprocess.run(["umount", str(source)], check=True)
    assert {"nosuid", "nodev", "noexec", "ro"} <= options_of(output, "/kept")
    changed = options_of(output, "/changed")
    if runtime.ours:
        assert {"nosuid", "rw"} <= changed
        assert not changed & {"nodev", "noexec", "ro"}


def test_recursive_options_reach_what_is_below(runtime: Runtime, bundle: Bundle) -> None:
    source = bundle.path / "source"
    source.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "t", str(source)], check=True)
    try:
        (source / "below").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "t", str(source / "below")], check=True)
        bundle.mount("/top", "bind", str(source), "rbind", "ro")
        bundle.mount("/deep", "bind", str(source), "rbind", "rro", "rnoatime", "rnosuid")
        output = run(runtime, bundle, "cat", "/proc/self/mountinfo")
    finally:
        subprocess.run(["umount", "-R", str(source)], check=True)
    assert "ro" in options_of(output, "/top")
    assert "rw" in options_of(output, "/top/below")
    assert {"ro", "noatime", "nosuid"} <= options_of(output, "/deep")
    assert {"ro", "noatime", "nosuid"} <= options_of(output, "/deep/below")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), {"noatime", "nodiratime"}),
        (("atime",), {"nodiratime"}),
        (("relatime", "diratime"), {"relatime"}),
        (("strictatime",), set()),
    ],
)
def test_access_times_are_one_choice(
    ours: Runtime, bundle: Bundle, options: tuple[str, ...], expected: set[str]
) -> None:
    source = bundle.path / "source"
    source.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "noatime,nodiratime", "t", source], check=True)
    try:
        bundle.mount("/data", "bind", str(source), "bind", *options)
        found = options_of(run(ours, bundle, "cat", "/proc/self/mountinfo"), "/data")
    finally:
        subprocess.run(["umount", str(source)], check=True)
    assert expected <= found
    if "atime" in options or "strictatime" in options:
        assert "noatime" not in found
    if options == ("strictatime",):
        assert "relatime" not in found


def test_sources_inside_the_container_follow_the_order(runtime: Runtime, bundle: Bundle) -> None:
    """What an earlier mount has put at the source is what a later bind shows."""
    outer = bundle.path / "outer"
    outer.mkdir()
    (outer / "file").write_text("mounted\n")
    (bundle.rootfs / "first").mkdir()
    (bundle.rootfs / "first/file").write_text("image\n")
    bundle.mount("/first", "bind", str(outer), "bind")
    bundle.mount("/second", "bind", str(bundle.rootfs / "first"), "bind")
    assert run(runtime, bundle, "cat", "/second/file") == "mounted\n"


def test_files_bind_onto_files(runtime: Runtime, bundle: Bundle) -> None:
    source = bundle.path / "resolv"
    source.write_text("nameserver 127.0.0.1\n")
    bundle.mount("/etc/made/resolv.conf", "bind", str(source), "bind", "ro")
    assert run(runtime, bundle, "cat", "/etc/made/resolv.conf") == "nameserver 127.0.0.1\n"


def test_masks_are_shared_and_laid_once(runtime: Runtime, bundle: Bundle) -> None:
    for name in ("one", "two"):
        (bundle.rootfs / name).mkdir()
        (bundle.rootfs / name / "secret").write_text("x")
    (bundle.rootfs / "file").write_text("x")
    bundle.linux["maskedPaths"] = ["/one", "/two", "/two", "/file", "/not/there"]
    script = "ls /one /two; cat /file; touch /one/x 2>/dev/null || echo refused; " \
             "grep -c ' /two ' /proc/self/mountinfo"  # fmt: skip
    output = run(runtime, bundle, "sh", "-c", script)
    assert "secret" not in output
    assert output.splitlines()[-2] == "refused"
    if runtime.ours:
        assert output.splitlines()[-1] == "1"


def test_without_a_pivot_nothing_of_the_host_shows(ours: Runtime, bundle: Bundle) -> None:
    result = ours.run(bundle, "sh", "-c", "ls /; cat /proc/1/comm; true", flags=("--no-pivot",))
    assert result.returncode == 0, result.stderr
    assert "rootfs" not in result.stdout.split()
    assert result.stdout.splitlines()[-1] == "sh"


@requires("userns")
def test_a_mount_with_owners_of_its_own(ours: Runtime, bundle: Bundle) -> None:
    source = bundle.path / "source"
    source.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "t", str(source)], check=True)
    try:
        (source / "file").write_text("x")
        os.chown(source / "file", 5, 7)
        bundle.mount("/data", "bind", str(source), "bind")
        ids = [{"containerID": 0, "hostID": 1000, "size": 100}]
        bundle.config["mounts"][-1] |= {"uidMappings": ids, "gidMappings": ids}
        assert run(ours, bundle, "stat", "-c", "%u %g", "/data/file") == "1005 1007\n"
    finally:
        subprocess.run(["umount", str(source)], check=True)


@requires("userns")
def test_a_mount_follows_the_containers_users(ours: Runtime, bundle: Bundle) -> None:
    """With `idmap` files look as if the container's root had made what root made outside."""
    source = bundle.path / "source"
    source.mkdir()
    os.chown(bundle.rootfs, 100_000, 100_000)
    bundle.path.chmod(0o755)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "t", str(source)], check=True)
    try:
        (source / "below").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "t", str(source / "below")], check=True)
        bundle.linux["namespaces"].append({"type": "user"})
        ids = [{"containerID": 0, "hostID": 100_000, "size": 65536}]
        bundle.linux.update({"uidMappings": ids, "gidMappings": ids})
        bundle.mount("/one", "bind", str(source), "rbind", "idmap")
        bundle.mount("/all", "bind", str(source), "rbind", "ridmap")
        script = ("stat", "-c", "%u", "/one", "/one/below", "/all", "/all/below")
        assert run(ours, bundle, *script) == "0\n65534\n0\n0\n"
    finally:
        subprocess.run(["umount", "-R", str(source)], check=True)


@pytest.mark.parametrize(
    ("mount", "words"),
    [
        ({"type": "tmpfs", "source": "t", "options": ["idmap"]}, "only binds can be idmapped"),
        ({"type": "bind", "source": "/etc", "options": ["bind", "idmap"]}, "user namespace"),
        (
            {
                "type": "bind", "source": "/etc", "options": ["bind"],
                "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}],
            },
            "both uidMappings and gidMappings",
        ),
    ],
)  # fmt: skip
def test_maps_that_make_no_sense(
    ours: Runtime, bundle: Bundle, mount: dict[str, object], words: str
) -> None:
    bundle.config["mounts"].append({"destination": "/data", **mount})
    result = ours.run(bundle, "true")
    assert result.returncode == 1
    assert words in result.stderr
    assert "$.mounts[" in result.stderr


def test_labels_of_modules_that_are_off_are_refused(ours: Runtime, bundle: Bundle) -> None:
    if Path("/sys/fs/selinux/enforce").exists():
        pytest.skip("SELinux is on here")
    bundle.linux["mountLabel"] = "system_u:object_r:container_file_t:s0"
    result = ours.run(bundle, "true")
    assert result.returncode == 1
    assert "SELinux is disabled" in result.stderr


def test_a_root_by_chroot_takes_no_mounts(ours: Runtime, bundle: Bundle) -> None:
    """Without a mount namespace of its own all would be mounted on the host."""
    kinds = [n for n in bundle.linux["namespaces"] if n["type"] != "mount"]
    bundle.linux["namespaces"] = kinds
    result = ours.run(bundle, "true")
    assert result.returncode == 1
    assert "without a private MNT namespace" in result.stderr
    bundle.config["mounts"] = []
    bundle.linux.update({"maskedPaths": [], "readonlyPaths": []})
    before = Path("/proc/self/mountinfo").read_text()
    result = ours.run(bundle, "ls", "/")
    assert result.returncode == 0, result.stderr
    assert "bin" in result.stdout.split()
    assert "work" not in result.stdout.split()
    assert Path("/proc/self/mountinfo").read_text() == before
