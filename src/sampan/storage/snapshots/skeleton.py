"""The bare root of a `host:` container: what is to be seen of /etc, and empty places for the rest.

It is built from a list of what may be seen, never by hiding what may not: what the host gets
tomorrow, a new folder below `/` or a new key below /etc, is invisible until it is listed here.
Copied are only files that every user of the host may read anyway, and no file beyond a size.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from typing import Final

__all__ = ["LINKED_OR_MOUNTED", "build", "state"]

LINKED_OR_MOUNTED: Final = (
    "usr",
    "opt",
    "bin",
    "sbin",
    "lib",
    "lib32",
    "lib64",
    "libx32",
)
"""Top folders of programs: a symlink is copied, a folder is mounted by the snapshotter."""

_ETC: Final = (
    "alternatives",
    "bash.bashrc",
    "ca-certificates",
    "ca-certificates.conf",
    "debian_version",
    "default/locale",
    "environment",
    "ethertypes",
    "fonts",
    "gai.conf",
    "group",
    "host.conf",
    "inputrc",
    "issue",
    "java-11-openjdk",
    "java-17-openjdk",
    "java-21-openjdk",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "locale.alias",
    "locale.conf",
    "localtime",
    "magic",
    "magic.mime",
    "mime.types",
    "networks",
    "nsswitch.conf",
    "os-release",
    "passwd",
    "perl",
    "pki/ca-trust/extracted/pem",
    "pki/tls/certs",
    "profile",
    "protocols",
    "python3",
    "python3.10",
    "python3.11",
    "python3.12",
    "python3.13",
    "python3.14",
    "redhat-release",
    "alpine-release",
    "resolv.conf",
    "rpc",
    "services",
    "shells",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
    "timezone",
    "xattr.conf",
)
_BIGGEST: Final = 8 << 20
_HOSTS: Final = b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
_FOLDERS: Final = {
    "dev": 0o755,
    "etc": 0o755,
    "home": 0o755,
    "media": 0o755,
    "mnt": 0o755,
    "proc": 0o555,
    "root": 0o700,
    "run": 0o755,
    "srv": 0o755,
    "sys": 0o555,
    "tmp": 0o1777,
    "var": 0o755,
    "var/cache": 0o755,
    "var/lib": 0o755,
    "var/local": 0o755,
    "var/log": 0o755,
    "var/mail": 0o755,
    "var/opt": 0o755,
    "var/spool": 0o755,
    "var/tmp": 0o1777,
}


def state(host: str = "/") -> str:
    """Return a name for what `build` would now make, which changes when the host's files do.

    Looked at are the listed files and folders, not each file in those folders: tools that keep
    them replace their files by rename, which shows in the folder.
    """
    seen = hashlib.sha256(b"skeleton 1\0")
    for name in LINKED_OR_MOUNTED:
        path = os.path.join(host, name)
        if os.path.islink(path):
            seen.update(f"{name}>{os.readlink(path)}\0".encode(errors="surrogateescape"))
        elif os.path.isdir(path):
            seen.update(f"{name}/\0".encode())
    for name in _ETC:
        try:
            status = os.stat(os.path.join(host, "etc", name))
        except OSError:
            continue
        told = (name, status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode)
        seen.update(repr(told).encode())
    return seen.hexdigest()[:32]


def build(target: str, host: str = "/") -> None:
    """Fill the empty folder `target`."""
    os.chmod(target, 0o755)  # noqa: S103
    for name, mode in _FOLDERS.items():
        path = os.path.join(target, name)
        os.mkdir(path)
        os.chmod(path, mode)
    os.symlink("/run", os.path.join(target, "var/run"))
    os.symlink("/run/lock", os.path.join(target, "var/lock"))
    for name in LINKED_OR_MOUNTED:
        source = os.path.join(host, name)
        if os.path.islink(source):
            os.symlink(os.readlink(source), os.path.join(target, name))
        elif os.path.isdir(source):
            os.mkdir(os.path.join(target, name), 0o755)
    etc = os.path.join(target, "etc")
    for name in _ETC:
        _copy(os.path.join(host, "etc", name), os.path.join(etc, name), top=True)
    for name, text in (("hosts", _HOSTS), ("hostname", b"localhost\n"), ("resolv.conf", b"")):
        path = os.path.join(etc, name)
        if not os.path.lexists(path):
            with open(path, "wb") as file:
                file.write(text)
    os.symlink("/proc/self/mounts", os.path.join(etc, "mtab"))


def _copy(source: str, target: str, *, top: bool = False) -> None:
    try:
        status = os.lstat(source)
    except OSError:
        return
    if top:
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    if stat.S_ISLNK(status.st_mode):
        leads = os.path.realpath(source)
        if top and not leads.startswith(("/usr/", "/opt/")) and os.path.isfile(leads):
            # It leads out of what is shown (resolv.conf into /run): take what it leads to.
            _copy(leads, target)
        else:
            os.symlink(os.readlink(source), target)
    elif stat.S_ISDIR(status.st_mode):
        if not status.st_mode & 0o005 or os.path.basename(source) == "private":
            return
        os.mkdir(target)
        os.chmod(target, 0o755)  # noqa: S103
        for name in os.listdir(source):
            _copy(os.path.join(source, name), os.path.join(target, name))
    elif stat.S_ISREG(status.st_mode) and status.st_mode & 0o004 and status.st_size <= _BIGGEST:
        shutil.copyfile(source, target, follow_symlinks=False)
        os.chmod(target, status.st_mode & 0o755)
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
