"""Mount options as config.json spells them, sorted into what the kernel takes.

An option is one of: a flag of mount(2), set or cleared; a propagation; a recursive attribute for
mount_setattr(2); an extension of the runtime (tmpcopyup, idmap, ridmap); or data for the
file system.

Source: runtime-spec config.md#linux-mount-options; mount(8), FILESYSTEM-INDEPENDENT MOUNT OPTIONS.
"""

from __future__ import annotations

__all__ = ["MountOptions", "known_options", "parse_options"]

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 0x1, 0x2, 0x4, 0x8
MS_SYNCHRONOUS, MS_REMOUNT, MS_MANDLOCK, MS_DIRSYNC = 0x10, 0x20, 0x40, 0x80
MS_NOSYMFOLLOW, MS_NOATIME, MS_NODIRATIME, MS_BIND = 0x100, 0x400, 0x800, 0x1000
MS_MOVE, MS_REC, MS_SILENT, MS_POSIXACL = 0x2000, 0x4000, 0x8000, 0x10000
MS_UNBINDABLE, MS_PRIVATE, MS_SLAVE, MS_SHARED = 0x20000, 0x40000, 0x80000, 0x100000
MS_RELATIME, MS_I_VERSION, MS_STRICTATIME, MS_LAZYTIME = 0x200000, 0x800000, 0x1000000, 0x2000000

ATTR_RDONLY, ATTR_NOSUID, ATTR_NODEV, ATTR_NOEXEC = 0x1, 0x2, 0x4, 0x8
ATTR_ATIME, ATTR_RELATIME, ATTR_NOATIME, ATTR_STRICTATIME = 0x70, 0x0, 0x10, 0x20
ATTR_NODIRATIME, ATTR_IDMAP, ATTR_NOSYMFOLLOW = 0x80, 0x100000, 0x200000

_SET = {
    "acl": MS_POSIXACL, "bind": MS_BIND, "dirsync": MS_DIRSYNC, "iversion": MS_I_VERSION,
    "lazytime": MS_LAZYTIME, "mand": MS_MANDLOCK, "noatime": MS_NOATIME, "nodev": MS_NODEV,
    "nodiratime": MS_NODIRATIME, "noexec": MS_NOEXEC, "nosuid": MS_NOSUID,
    "nosymfollow": MS_NOSYMFOLLOW, "rbind": MS_BIND | MS_REC, "relatime": MS_RELATIME,
    "remount": MS_REMOUNT, "ro": MS_RDONLY, "silent": MS_SILENT, "strictatime": MS_STRICTATIME,
    "sync": MS_SYNCHRONOUS,
}  # fmt: skip
_CLEAR = {
    "async": MS_SYNCHRONOUS, "atime": MS_NOATIME, "dev": MS_NODEV, "diratime": MS_NODIRATIME,
    "exec": MS_NOEXEC, "loud": MS_SILENT, "noacl": MS_POSIXACL, "noiversion": MS_I_VERSION,
    "nolazytime": MS_LAZYTIME, "nomand": MS_MANDLOCK, "norelatime": MS_RELATIME,
    "nostrictatime": MS_STRICTATIME, "rw": MS_RDONLY, "suid": MS_NOSUID,
    "symfollow": MS_NOSYMFOLLOW,
}  # fmt: skip
_PROPAGATION = {
    "private": MS_PRIVATE, "rprivate": MS_PRIVATE | MS_REC, "shared": MS_SHARED,
    "rshared": MS_SHARED | MS_REC, "slave": MS_SLAVE, "rslave": MS_SLAVE | MS_REC,
    "unbindable": MS_UNBINDABLE, "runbindable": MS_UNBINDABLE | MS_REC,
}  # fmt: skip
# name -> (attributes set, attributes cleared); access times are one choice, so all is cleared
_RECURSIVE = {
    "rro": (ATTR_RDONLY, 0), "rrw": (0, ATTR_RDONLY),
    "rnosuid": (ATTR_NOSUID, 0), "rsuid": (0, ATTR_NOSUID),
    "rnodev": (ATTR_NODEV, 0), "rdev": (0, ATTR_NODEV),
    "rnoexec": (ATTR_NOEXEC, 0), "rexec": (0, ATTR_NOEXEC),
    "rnodiratime": (ATTR_NODIRATIME, 0), "rdiratime": (0, ATTR_NODIRATIME),
    "rrelatime": (ATTR_RELATIME, ATTR_ATIME), "rnorelatime": (0, ATTR_ATIME),
    "rnoatime": (ATTR_NOATIME, ATTR_ATIME), "ratime": (0, ATTR_ATIME),
    "rstrictatime": (ATTR_STRICTATIME, ATTR_ATIME), "rnostrictatime": (0, ATTR_ATIME),
    "rnosymfollow": (ATTR_NOSYMFOLLOW, 0), "rsymfollow": (0, ATTR_NOSYMFOLLOW),
}  # fmt: skip
_EXTENSIONS = ("tmpcopyup", "idmap", "ridmap")
_PLAIN = ("defaults",)

# What of the flags is an attribute of the mount, as against one of the file system beneath.
_FLAG_TO_ATTR = (
    (MS_RDONLY, ATTR_RDONLY), (MS_NOSUID, ATTR_NOSUID), (MS_NODEV, ATTR_NODEV),
    (MS_NOEXEC, ATTR_NOEXEC), (MS_NODIRATIME, ATTR_NODIRATIME),
    (MS_NOSYMFOLLOW, ATTR_NOSYMFOLLOW),
)  # fmt: skip


class MountOptions:
    """The options of one mount, sorted. All ints are bit sets of the kernel's constants."""

    __slots__ = ("clear", "data", "extensions", "flags", "propagation", "rec_clear", "rec_set")

    def __init__(self) -> None:
        self.flags = 0
        """MS_* that were set last."""
        self.clear = 0
        """MS_* that were cleared last, explicitly."""
        self.propagation: list[int] = []
        """MS_SHARED and kin, one mount(2) call each, in order."""
        self.rec_set = 0
        self.rec_clear = 0
        self.data = ""
        self.extensions: set[str] = set()

    @property
    def is_bind(self) -> bool:
        return bool(self.flags & MS_BIND)

    def attributes(self) -> tuple[int, int]:
        """Return (set, clear) of MOUNT_ATTR_* that these flags ask of a mount that exists.

        What is not named stays as it is: a bind of a nosuid source stays nosuid.
        """
        add = clear = 0
        for flag, attr in _FLAG_TO_ATTR:
            if self.flags & flag:
                add |= attr
            elif self.clear & flag:
                clear |= attr
        if self.flags & MS_STRICTATIME:
            add, clear = add | ATTR_STRICTATIME, clear | ATTR_ATIME
        elif self.flags & MS_NOATIME:
            add, clear = add | ATTR_NOATIME, clear | ATTR_ATIME
        elif self.flags & MS_RELATIME or self.clear & (MS_NOATIME | MS_STRICTATIME):
            clear |= ATTR_ATIME
        return add, clear


def parse_options(options: tuple[str, ...]) -> MountOptions:
    """Sort the options of one mount; of two that contradict each other the later one wins."""
    parsed = MountOptions()
    data: list[str] = []
    for option in options:
        if option in _SET:
            parsed.flags |= _SET[option]
            parsed.clear &= ~_SET[option]
        elif option in _CLEAR:
            parsed.flags &= ~_CLEAR[option]
            parsed.clear |= _CLEAR[option]
        elif option in _PROPAGATION:
            parsed.propagation.append(_PROPAGATION[option])
        elif option in _RECURSIVE:
            add, clear = _RECURSIVE[option]
            parsed.rec_set = (parsed.rec_set & ~clear) | add
            parsed.rec_clear = (parsed.rec_clear & ~add) | clear
        elif option in _EXTENSIONS:
            parsed.extensions.add(option)
        elif option not in _PLAIN:
            data.append(option)
    parsed.data = ",".join(data)
    return parsed


def known_options() -> tuple[str, ...]:
    """Return the names for `features`' mountOptions, sorted."""
    names = {*_SET, *_CLEAR, *_PROPAGATION, *_RECURSIVE, *_EXTENSIONS, *_PLAIN}
    return tuple(sorted(names))
