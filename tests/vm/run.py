"""Run a command in a virtual machine: every controller on cgroup2, AppArmor, systemd as pid 1.

    python tests/vm/run.py                         the tests that need it, tests/vm
    python tests/vm/run.py --init plain -- true    without systemd
    python tests/vm/run.py -- python -m pytest tests/kernel/cgroups

The machine sees the host's whole root, read-only, below a tmpfs that takes its writes, so
everything installed here is there, the checkout under the same path. It has no network. It is
emulated, as nested virtualization is rarely to be had. The exit code is the command's.

    host: virtiofsd --- its own mount namespace, / bound read-only
          qemu      --- ttyS0: console, in <cache>/console.log     ttyS1: the command's output
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from image import (  # type: ignore[import-not-found]  # beside us, since this is a script
    Kernel,
    fetch_kernel,
    fetch_package,
    make_initramfs,
)

CHECKOUT = Path(__file__).resolve().parents[2]
CACHE = CHECKOUT / ".cache/vm"
VIRTIOFSD = "/usr/lib/qemu/virtiofsd"
MARK = "sampan-vm-exit:"
DEFAULT = (sys.executable, "-m", "pytest", "tests/vm", "tests/kernel/cgroups", "-q")

INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /sbin /proc /sys /dev /run /lower /rw /new
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r name; do insmod /modules/$name 2>/dev/null; done </modules/order
mount -t virtiofs -o ro host /lower || sh
mount -t tmpfs -o mode=755 rw /rw
mkdir /rw/upper /rw/work
mount -t overlay -o lowerdir=/lower,upperdir=/rw/upper,workdir=/rw/work root /new || sh
for name in tmp run var/tmp var/lib; do
    mkdir -p /new/$name
    mount -t tmpfs -o mode=1777 $name /new/$name
done
chmod 755 /new/run /new/var/lib
mkdir -p /new/proc /new/sys /new/dev
mount --move /proc /new/proc
mount --move /sys /new/sys
mount --move /dev /new/dev
mkdir -p /new/dev/pts /new/dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /new/dev/pts
mount -t tmpfs -o mode=1777 shm /new/dev/shm
mount -t securityfs securityfs /new/sys/kernel/security
mount -t cgroup2 cgroup2 /new/sys/fs/cgroup
mkdir -p /new/etc/systemd/system /new/lib/modules
rm -f /new/.dockerenv
@SETUP@
exec switch_root /new @PROGRAM@
"""

UNIT = """[Unit]
Description=What the virtual machine was started for
Requires=dbus.service systemd-logind.service
After=dbus.service systemd-logind.service
SuccessAction=none
[Service]
Type=exec
ExecStart=/run/sampan-vm
StandardOutput=null
Delegate=yes
KillMode=mixed
TimeoutStartSec=infinity
"""
_USER = (
    # pytest has a mount namespace of its own, where what logind mounts later is not seen.
    "useradd --create-home --shell /bin/sh sampanuser",
    "loginctl enable-linger sampanuser",
    'until [ -S "/run/user/$(id -u sampanuser)/systemd/private" ]; do sleep 0.1; done',
)
MASKED = (
    "systemd-timesyncd", "systemd-udevd", "systemd-udev-trigger", "systemd-networkd", "getty@tty1",
    "systemd-random-seed", "systemd-update-utmp", "systemd-modules-load", "kmod-static-nodes",
    "systemd-journal-flush", "systemd-pstore", "apparmor", "networking", "ldconfig",
    "systemd-hwdb-update", "systemd-binfmt", "systemd-udevd-control.socket",
    "systemd-journal-catalog-update", "systemd-machine-id-commit",
)  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--init", choices=("systemd", "plain"), default="systemd")
    parser.add_argument(
        "--accel", default="tcg,thread=multi", help="as qemu's -accel: kvm where it works"
    )
    parser.add_argument("--memory-mib", type=int, default=3072)
    parser.add_argument("--timeout-s", type=int, default=1200)
    parser.add_argument("--append", default="", help="more of the kernel's command line")
    parser.add_argument("command", nargs="*", default=DEFAULT)
    given = parser.parse_args()
    kernel = fetch_kernel(CACHE)
    apparmor = fetch_package("apparmor", CACHE)
    init = _init(given.init, given.command or DEFAULT, kernel, apparmor)
    initramfs = make_initramfs(kernel, init, CACHE)
    with tempfile.TemporaryDirectory(prefix="sampan-vm-") as name:
        folder = Path(name)
        with _file_server(folder):
            return _boot(given, kernel, initramfs, folder)


def _init(kind: str, command: tuple[str, ...], kernel: Kernel, apparmor: Path) -> str:
    script = "\n".join((
        "#!/bin/sh",
        "exec >/dev/ttyS1 2>&1 </dev/null",
        "stty -F /dev/ttyS1 raw",
        f"export PATH={Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:"
        f"/usr/bin:/sbin:/bin:{apparmor}/sbin HOME=/root SAMPAN_VM={kind} LANG=C.UTF-8",
        "ip link set lo up",
        *(_USER if kind == "systemd" else ()),
        f"cd {shlex.quote(str(CHECKOUT))}",
        shlex.join(command),
        f"echo {MARK}$?",
        "sync",
        "echo o >/proc/sysrq-trigger",
        "sleep 60",
    ))  # fmt: skip
    setup = [
        f"mkdir -p /new/lib/modules/{kernel.release}",
        f"mount --bind /new{kernel.modules} /new/lib/modules/{kernel.release}",
        f"cat >/new/run/sampan-vm <<'end-of-script'\n{script}\nend-of-script",
        "chmod 755 /new/run/sampan-vm",
    ]
    if kind == "plain":
        program = "/run/sampan-vm"
    else:
        program = "/lib/systemd/systemd --unit=sampan-vm.service"
        at = "/new/etc/systemd/system"
        setup.append(f"cat >{at}/sampan-vm.service <<'end-of-unit'\n{UNIT}\nend-of-unit")
        setup += [f"ln -sf /dev/null {at}/{name}.service" for name in MASKED]
        setup.append(f"rm -f {at}/*.wants/* /new/etc/fstab; : >/new/etc/fstab")
    return INIT.replace("@SETUP@", "\n".join(setup)).replace("@PROGRAM@", program)


@contextmanager
def _file_server(folder: Path) -> Iterator[None]:
    """Serve the host's root, read-only, at a socket in `folder`."""
    shared = folder / "root"
    shared.mkdir()
    steps = [f"mount --bind / {shared}"]
    if CHECKOUT.stat().st_dev != Path("/").stat().st_dev:
        steps.append(f"mount --bind {CHECKOUT} {shared}{CHECKOUT}")
        steps.append(f"mount -o remount,bind,ro {shared}{CHECKOUT}")
    steps.append(f"mount -o remount,bind,ro {shared}")
    serve = [VIRTIOFSD, f"--socket-path={folder}/fs", "-o", f"source={shared}", "-o"]
    steps.append("exec " + shlex.join([*serve, "cache=always", "-o", "xattr"]))
    with (folder / "virtiofsd.log").open("wb") as log:
        server = subprocess.Popen(
            ["unshare", "-m", "--propagation", "private", "sh", "-ec", "\n".join(steps)],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        deadline = time.monotonic() + 10
        while not (folder / "fs").exists():
            if server.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"virtiofsd: {(folder / 'virtiofsd.log').read_text()}")
            time.sleep(0.01)
        yield
    finally:
        server.terminate()
        server.wait(10)


def _boot(given: argparse.Namespace, kernel: Kernel, initramfs: Path, folder: Path) -> int:
    append = "console=ttyS0 panic=-1 quiet loglevel=3 apparmor=1 security=apparmor"
    append += " systemd.unified_cgroup_hierarchy=1 systemd.unit=sampan-vm.service"
    append += " cgroup_no_v1=all swapaccount=1 hugepages=8 random.trust_cpu=on"
    command = [
        "qemu-system-x86_64", "-machine", "q35,memory-backend=mem", "-accel", given.accel,
        "-cpu", "max,-arch-capabilities", "-smp", "2", "-m", f"{given.memory_mib}M",
        "-object", f"memory-backend-memfd,id=mem,size={given.memory_mib}M,share=on",
        "-chardev", f"socket,id=fs,path={folder}/fs",
        "-device", "vhost-user-fs-pci,chardev=fs,tag=host,queue-size=512",
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-serial", f"file:{folder}/console", "-serial", "stdio",
        "-kernel", str(kernel.image), "-initrd", str(initramfs),
        "-append", f"{append} {given.append}".strip(),
    ]  # fmt: skip
    machine = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        return _follow(machine, given.timeout_s, folder / "console")
    finally:
        machine.kill()
        machine.communicate()
        if (folder / "console").exists():
            shutil.copyfile(folder / "console", CACHE / "console.log")


def _follow(machine: subprocess.Popen[bytes], timeout_s: int, console: Path) -> int:
    """Print what the command says and return how it ended."""
    assert machine.stdout is not None
    os.set_blocking(machine.stdout.fileno(), False)
    deadline = time.monotonic() + timeout_s
    kept = b""
    while time.monotonic() < deadline:
        data = machine.stdout.read()
        if data:
            sys.stdout.buffer.write(data)
            sys.stdout.flush()
            kept = (kept + data)[-200:]
            _, mark, tail = kept.rpartition(MARK.encode())
            if mark and b"\n" in tail:
                return int(tail.split()[0])
        if machine.poll() is not None:
            break
        if not data:
            time.sleep(0.05)
    said = machine.stderr.read().decode() if machine.poll() is not None and machine.stderr else ""
    last = console.read_text(errors="replace")[-3000:] if console.exists() else ""
    sys.stderr.write(f"the machine ended, or not in {timeout_s} s: {said}\n{last}\n")
    return 125


if __name__ == "__main__":
    sys.exit(main())
