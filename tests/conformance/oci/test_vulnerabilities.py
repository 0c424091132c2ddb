"""Rows of the table of vulnerabilities that concern the runtime, one attack each.

Rows 1 and 2 are in tests/conformance/birth/test_attacks.py, more of 4 in test_hostile_rootfs.py.
"""

import os
import random
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from sampan.linux import paths
from sampan.testing import Bundle, Runtime, requires
from sampan.testing.bundle import DEFAULT_CAPABILITIES
from sampan.testing.runtimes import sampan_oci

pytestmark = requires("root", "busybox")

SOAK = os.environ.get("SAMPAN_SOAK") == "1"
OURS = ("sampan-exec", "sampan-fork")
CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")


@pytest.fixture(params=OURS)
def ours(request: pytest.FixtureRequest, make_runtime: Callable[[str], Runtime]) -> Runtime:
    name: str = request.param
    return make_runtime(name)


def test_row_3_a_false_null_masks_nothing(ours: Runtime, bundle: Bundle) -> None:
    """An image whose /dev/null is a link must not have its target bound over a masked file."""
    bundle.config["mounts"] = [m for m in bundle.config["mounts"] if m["destination"] != "/dev"]
    null = bundle.rootfs / "dev/null"
    null.unlink(missing_ok=True)
    null.symlink_to("/proc/sys/kernel/core_pattern")
    (bundle.rootfs / "masked").write_text("secret")
    bundle.linux["maskedPaths"] = ["/masked"]
    before = CORE_PATTERN.read_text()
    result = ours.run(bundle, "sh", "-c", "echo '|/evil' >/masked; cat /masked")
    assert CORE_PATTERN.read_text() == before
    assert "secret" not in result.stdout
    assert result.returncode != 0 or not result.stdout.strip()


def test_row_4_a_false_console(ours: Runtime, bundle: Bundle, short_path: Path) -> None:
    """/dev/console of the image is a link to a file of the host; the terminal goes elsewhere."""
    victim = short_path / "victim"
    victim.write_text("untouched")
    bundle.config["mounts"] = [
        m for m in bundle.config["mounts"] if m["destination"] not in ("/dev", "/dev/shm")
    ]
    console = bundle.rootfs / "dev/console"
    console.unlink(missing_ok=True)
    console.symlink_to(victim)
    bundle.process["terminal"] = True
    ours.run(bundle, "true")
    assert victim.read_text() == "untouched"
    assert str(victim) not in Path("/proc/self/mountinfo").read_text()


def test_row_5_attributes_behind_a_false_proc(ours: Runtime, bundle: Bundle) -> None:
    """A tmpfs or a bind over parts of /proc would swallow our writes to attr and sys."""
    for where in ("/proc/self/attr", "/proc/sys", "/proc/thread-self"):
        config = bundle.with_changes(("true",))
        config["mounts"].append({"destination": where, "type": "tmpfs", "source": "t"})
        bundle.write(config)
        result = ours.call("run", "--bundle", str(bundle.path), bundle.id)
        assert result.returncode != 0
        assert "inside /proc" in result.stderr


class Swapper:
    """Exchanges a folder and a link for ever, in a thread, while containers are created."""

    def __init__(self, one: Path, other: Path) -> None:
        self._one, self._other = one, other
        self._stop = threading.Event()
        self.swaps = 0
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(10)

    def _work(self) -> None:
        folder = os.open(self._one.parent, os.O_PATH)
        while not self._stop.is_set():
            for _ in range(50):
                paths.renameat2(
                    folder, self._one.name, folder, self._other.name, paths.RENAME_EXCHANGE
                )
                self.swaps += 1
        os.close(folder)


def test_row_6_a_folder_swapped_for_a_link(
    make_runtime: Callable[[str], Runtime], bundle: Bundle, short_path: Path
) -> None:
    """A volume shared with somebody hostile: our mounts stay inside, whatever it becomes."""
    runtime = make_runtime("sampan-exec")
    volume, outside = short_path / "volume", short_path / "outside"
    (volume / "dir").mkdir(parents=True)
    outside.mkdir()
    (volume / "link").symlink_to(f"../../../../../../../../..{outside}")
    bundle.mount("/volume", "bind", str(volume), "bind")
    bundle.mount("/volume/dir/made", "tmpfs", "tmpfs")
    before = len(Path("/proc/self/mountinfo").read_text().splitlines())
    tries = 1000 if SOAK else 40
    with Swapper(volume / "dir", volume / "link") as swapper:
        for _ in range(tries):
            runtime.run(bundle, "true")
    assert swapper.swaps > tries
    assert list(outside.iterdir()) == []
    assert len(Path("/proc/self/mountinfo").read_text().splitlines()) == before


@pytest.mark.parametrize(
    "text", ["4294967296", "4294967295", "+1", "-1", "1_0", " 1 ", "\uff11", "0x1", "root", ""]
)
def test_row_12_ids_that_are_none(ours: Runtime, bundle: Bundle, text: str) -> None:
    name = ours.create(bundle, "sleep", "100")
    ours.start(name)
    result = ours.exec(name, "id", "-u", flags=("--user", text)) if text else None
    if result is not None:
        assert result.returncode == 255
        assert "is no user or group id" in result.stderr
    ours.delete(name, force=True)


@pytest.mark.parametrize("uid", [-1, 1 << 32, (1 << 32) - 1, "0", 1.5, None, True])
def test_row_12_ids_in_the_configuration(ours: Runtime, bundle: Bundle, uid: object) -> None:
    bundle.process["user"] = {"uid": uid, "gid": 0}
    result = ours.run(bundle, "id", "-u")
    assert result.returncode != 0 or (result.stdout == "0\n" and uid is None), result.stdout


def test_row_15_no_abstract_sockets(ours: Runtime, bundle: Bundle) -> None:
    """Whoever shares the host's network sees every abstract socket; we must have none."""
    kinds = [n for n in bundle.linux["namespaces"] if n["type"] != "network"]
    bundle.linux["namespaces"] = kinds
    bundle.config["mounts"] = [m for m in bundle.config["mounts"] if m["type"] != "sysfs"]
    result = ours.run(bundle, "cat", "/proc/net/unix")
    names = [line.split()[-1] for line in result.stdout.splitlines()[1:] if "@" in line]
    assert not [name for name in names if "sampan" in name], names


def test_row_16_folders_are_closed_whatever_the_umask(bundle: Bundle, short_path: Path) -> None:
    root = short_path / "root"
    bundle.write(bundle.with_changes(("sleep", "100")))
    ours = [*sampan_oci(), "--root", str(root)]
    script = 'umask 000; exec "$@" </dev/null >/dev/null 2>&1'
    create = [*ours, "create", "--bundle", str(bundle.path), bundle.id]
    subprocess.run(["sh", "-c", script, "sh", *create], check=True, timeout=30)
    try:
        for path in (root, *root.rglob("*")):
            mode = stat.S_IMODE(path.lstat().st_mode)
            assert not mode & (0o066 if path.is_dir() else 0o077), f"{path} {mode:o}"
    finally:
        pid = int(
            (root / bundle.id / "state.json").read_text().partition('"pid":')[2].split(",")[0]
        )
        subprocess.run([*ours, "delete", "--force", bundle.id], check=True, timeout=30)
        os.waitpid(pid, 0)


@pytest.mark.parametrize("exec_too", [False, True])
@pytest.mark.parametrize("uid", [0, 1000])
def test_row_17_capabilities_and_groups(
    runtime: Runtime, bundle: Bundle, uid: int, exec_too: bool
) -> None:
    """Inheritable and ambient sets are empty, groups are those asked for: no more, no less."""
    bundle.process["user"] = {"uid": uid, "gid": uid, "additionalGids": [7, 9]}
    show = ("sh", "-c", "grep -E '^(Cap|Groups|NoNewPrivs)' /proc/self/status")
    if exec_too:
        name = runtime.create(bundle, "sleep", "100")
        runtime.start(name)
        output = runtime.exec(
            name, *show, flags=("--additional-gids", "7", "--additional-gids", "9")
        )
        text = output.stdout
        assert output.returncode == 0, output.stderr
        runtime.delete(name, force=True)
    else:
        text = runtime.run(bundle, *show).stdout
    fields = {line.partition(":")[0]: line.partition(":")[2].split() for line in text.splitlines()}
    assert fields["CapInh"] == ["0000000000000000"]
    assert fields["CapAmb"] == ["0000000000000000"]
    assert int(fields["CapBnd"][0], 16).bit_count() == len(DEFAULT_CAPABILITIES)
    assert int(fields["CapEff"][0], 16).bit_count() == (
        len(DEFAULT_CAPABILITIES) if uid == 0 else 0
    )
    assert {"7", "9"} <= set(fields["Groups"]) <= {"7", "9", str(uid)}
    assert fields["NoNewPrivs"] == ["1"]


def test_row_19_smuggled_values(ours: Runtime, bundle: Bundle) -> None:
    """Sysctls with separators, control characters, names of other kinds; a seeded lot of them."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201
    chance = random.Random(seed)
    before = {path: path.read_text() for path in (CORE_PATTERN, Path("/proc/sys/kernel/hostname"))}
    names = ["kernel.core_pattern", "kernel/core_pattern", "net..ipv4.ip_forward",
             "kernel.shm_rmid_forced+kernel.core_pattern", "net/../kernel/core_pattern",
             "kernel.msgmax\n", "net.ipv4.ip_forward ", "fs.mqueue.msg_max\0x"]  # fmt: skip
    for _ in range(200 if SOAK else 12):
        name = chance.choice(names)
        bundle.linux["sysctl"] = {name: chance.choice(["1", "1\n2", "|/evil", "1+kernel.x=2"])}
        result = ours.run(bundle, "true")
        assert result.returncode != 0, (name, bundle.linux["sysctl"])
    bundle.linux["sysctl"] = {"kernel.msgmax": "8192\n1"}
    assert ours.run(bundle, "true").returncode != 0
    assert {path: path.read_text() for path in before} == before
    bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096"}
    script = "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax"
    assert ours.run(bundle, "sh", "-c", script).stdout == "1\n4096\n"


def test_row_19_annotations_are_only_carried(ours: Runtime, bundle: Bundle) -> None:
    """No annotation changes what we do, systemd's properties and criu's settings included."""
    bundle.config["annotations"] = {
        "org.systemd.property.ExecStopPost": "['/bin/touch', '/tmp/evil']",
        "org.criu.config": "/etc/passwd",
        "run.oci.handler": "evil",
        "name\nnewline": "v\n",
    }
    result = ours.run(bundle, "echo", "fine")
    assert (result.returncode, result.stdout) == (0, "fine\n"), result.stderr
    assert not Path("/tmp/evil").exists()
