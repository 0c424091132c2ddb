"""What the virtual machine boots: Debian's kernel, and an initramfs made of busybox and modules.

    <cache>/linux-image-*.deb          as apt downloads it, kept
    <cache>/<package>/                 unpacked
    <cache>/initramfs-<digest>.cpio    /init, busybox, the modules that lead to the root

The root itself is the host's own, read-only over virtiofs, with a tmpfs overlaid on it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterable
from pathlib import Path

__all__ = ["Kernel", "fetch_kernel", "fetch_package", "make_initramfs"]

META_PACKAGE = "linux-image-cloud-amd64"
MODULES = (
    "virtio_pci", "virtiofs", "overlay", "bridge", "veth", "dummy", "unix_diag", "tcp_diag",
    "udp_diag", "raw_diag", "netlink_diag", "af_packet_diag", "nf_tables", "nft_compat", "xt_mark",
    "loop", "tun", "macvlan", "x_tables", "ip_tables", "ip6_tables", "iptable_filter",
    "ip6table_filter", "nf_conntrack", "nf_conntrack_netlink", "xt_conntrack",
    "nf_nat", "iptable_nat", "autofs4",
)  # fmt: skip
"""criu locks a network by its tables and asks for sockets by *_diag; the rest is for containers."""


class Kernel:
    """An unpacked kernel package."""

    def __init__(self, folder: Path) -> None:
        self.image = next((folder / "boot").glob("vmlinuz-*"))
        self.release = self.image.name.removeprefix("vmlinuz-")
        self.modules = folder / "lib/modules" / self.release

    def closure(self, wanted: Iterable[str]) -> list[Path]:
        """Return module files, each after those it depends on. Those built in are left out."""
        files = {p.name.partition(".")[0].replace("-", "_"): p for p in self.modules.rglob("*.ko")}
        ordered: dict[str, Path] = {}

        def add(name: str) -> None:
            name = name.replace("-", "_")
            if name in ordered or name not in files:
                return
            found = re.search(rb"\0depends=([^\0]*)\0", files[name].read_bytes())
            for needed in found[1].decode().split(",") if found else []:
                add(needed)
            ordered[name] = files[name]

        for name in wanted:
            add(name)
        return list(ordered.values())


def fetch_package(name: str, cache: Path) -> Path:
    """Download a Debian package once and unpack it; return its folder."""
    folder = cache / name
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _run("apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", name, cwd=cache)
        package = max(cache.glob(f"{name}_*.deb"), key=lambda path: path.stat().st_mtime)
        partial = folder.with_suffix(".partial")
        shutil.rmtree(partial, ignore_errors=True)
        _run("dpkg-deb", "-x", str(package), str(partial))
        partial.rename(folder)
    return folder


def fetch_kernel(cache: Path) -> Kernel:
    """Return the newest cloud kernel of this Debian, downloaded at the first call."""
    known = sorted(cache.glob("linux-image-*-cloud-amd64/boot"))
    if known:
        return Kernel(known[-1].parent)
    listed = _run("apt-cache", "depends", "--important", META_PACKAGE)
    name = re.search(r"Depends: (linux-image-\S+)", listed)
    if name is None:
        raise SystemExit(f"apt knows no {META_PACKAGE}: is its index there? (apt-get update)")
    return Kernel(fetch_package(name[1], cache))


def make_initramfs(kernel: Kernel, init: str, cache: Path) -> Path:
    """Return an initramfs whose /init is the script `init`."""
    busybox = shutil.which("busybox")
    if busybox is None:
        raise SystemExit("needs busybox")
    files = {"bin/busybox": Path(busybox).read_bytes()}
    for library in re.findall(r"(/\S+) \(0x", _run("ldd", busybox)):
        files[library.lstrip("/")] = Path(library).read_bytes()
    modules = kernel.closure(MODULES)
    for path in modules:
        files[f"modules/{path.name}"] = path.read_bytes()
    files["modules/order"] = "".join(f"{path.name}\n" for path in modules).encode()
    files["init"] = init.encode()
    digest = hashlib.sha256(kernel.release.encode())
    for name, content in files.items():
        digest.update(name.encode() + content)
    target = cache / f"initramfs-{digest.hexdigest()[:16]}.cpio"
    if not target.exists():
        partial = target.with_suffix(f".{os.getpid()}")
        partial.write_bytes(_cpio(files))
        partial.rename(target)
    return target


def _cpio(files: dict[str, bytes]) -> bytes:
    """Encode in the `newc` format. Source: kernel, Documentation/driver-api/early-userspace."""
    out = bytearray()
    entries: dict[str, tuple[int, bytes]] = {}
    for name, content in files.items():
        for folder in reversed(Path(name).parents[:-1]):
            entries[str(folder)] = (stat.S_IFDIR | 0o755, b"")
        entries[name] = (stat.S_IFREG | 0o755, content)
    entries["TRAILER!!!"] = (0, b"")
    for number, (name, (mode, content)) in enumerate(entries.items(), 1):
        raw = name.encode() + b"\0"
        fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(raw), 0)
        out += b"070701" + b"".join(b"%08X" % field for field in fields) + raw
        out += bytes(-len(out) % 4)
        out += content
        out += bytes(-len(out) % 4)
    return bytes(out)


def _run(*command: str, cwd: Path | None = None) -> str:
    return subprocess.run(command, check=True, cwd=cwd, stdout=subprocess.PIPE, text=True).stdout
