"""What a chain does to a mount before it is mounted: folders and file systems are made.

Both work below given roots alone, and follow no link there. Blocking: call them in a thread.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias

from sampan.concurrency import Completed
from sampan.errors import FailedPrecondition, InvalidArgument, Unimplemented, Unknown
from sampan.linux.paths import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2
from sampan.model.mounts import Mount

__all__ = ["Run", "make_file_system", "make_folders"]

Run: TypeAlias = Callable[[Sequence[str], int], Completed]
"""Runs a program that inherits one fd, from a thread."""

_MKDIR: Final = "X-containerd.mkdir."
_MKFS: Final = "X-containerd.mkfs."
_RESOLVE: Final = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_ID: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
_MODE: Final = re.compile(r"[0-7]{1,4}", re.ASCII)
_SIZE: Final = re.compile(r"([0-9]{1,15})\s*([kmgtp]?)i?b?", re.ASCII | re.IGNORECASE)
_UUID: Final = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_SIZE_MAX: Final = 1 << 46


def make_folders(mount: Mount, roots: Sequence[Path]) -> Mount:
    """Make the folder of each mkdir option; return the mount without these options.

    Raises:
      InvalidArgument: an option is wrong.
      Unimplemented: the folder lies below none of `roots`.
    """
    for option in mount.options:
        if option.startswith(_MKDIR):
            _make_folder(option, roots)
    rest = tuple(option for option in mount.options if not option.startswith(_MKDIR))
    return replace(mount, options=rest)


def _make_folder(option: str, roots: Sequence[Path]) -> None:
    key, _, value = option.removeprefix(_MKDIR).partition("=")
    path, *more = value.split(":")
    if key != "path" or not path or len(more) not in (0, 1, 3):
        raise InvalidArgument(f"invalid mkdir option {option!r}: give path=DIR[:MODE[:UID:GID]]")
    if more and not _MODE.fullmatch(more[0]):
        raise InvalidArgument(f"invalid mkdir option {option!r}: mode {more[0]!r}")
    if not all(_ID.fullmatch(one) for one in more[1:]):
        raise InvalidArgument(f"invalid mkdir option {option!r}: user or group is no number")
    mode = int(more[0], 8) if more else 0o700
    with _folder_of(Path(path), roots, "mkdir") as (folder, name):
        try:
            os.mkdir(name, 0o700, dir_fd=folder)
        except FileExistsError:
            there = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if not stat.S_ISDIR(there.st_mode):
                raise FailedPrecondition(f"{path}: is there, and no folder") from None
            if stat.S_IMODE(there.st_mode) == mode:
                return
        fd = openat2(folder, name, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, resolve=_RESOLVE)
        try:
            if len(more) == 3:
                os.fchown(fd, int(more[1]), int(more[2]))
            os.fchmod(fd, mode)
        finally:
            os.close(fd)


def make_file_system(mount: Mount, roots: Sequence[Path], run: Run) -> Mount:
    """Make a file system in the file that is the mount's source, unless it is there.

    Raises:
      InvalidArgument: an option is wrong, or there is no size.
      Unimplemented: the source lies below none of `roots`, or its mkfs is not installed.
      Unknown: mkfs failed; says why.
    """
    with _folder_of(Path(mount.source), roots, "mkfs") as (folder, name):
        wanted, rest = _wanted(mount.options)
        size = _size(wanted["size"])
        _format(folder, name, size, _program(wanted["fs"], wanted["uuid"]), run)
    return replace(mount, options=rest)


def _wanted(options: Sequence[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return what mkfs is told, and the options that are not for it."""
    wanted = {"fs": "ext4", "size": "", "uuid": ""}
    rest = []
    for option in options:
        if not option.startswith(_MKFS):
            rest.append(option)
            continue
        key, _, value = option.removeprefix(_MKFS).partition("=")
        if key not in wanted:
            raise InvalidArgument(f"unknown mount option {key[:100]!r} of mkfs")
        wanted[key] = value
    if wanted["uuid"] and not _UUID.fullmatch(wanted["uuid"]):
        raise InvalidArgument(f"mkfs: {wanted['uuid'][:100]!r} is no UUID")
    return wanted, tuple(rest)


def _format(folder: int, name: str, size: int, argv: Sequence[str], run: Run) -> None:
    program, *words = argv
    temporary = f".{name}.{os.urandom(6).hex()}"
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        os.stat(name, dir_fd=folder, follow_symlinks=False)
        return
    except FileNotFoundError:
        fd = os.open(temporary, flags, 0o640, dir_fd=folder)
    try:
        os.ftruncate(fd, size)
        _check(run([program, *words, f"/proc/self/fd/{fd}"], fd), program)
        os.fsync(fd)
        # Whole or not at all: a file that is there is taken for formatted.
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        os.unlink(temporary, dir_fd=folder)
        raise
    finally:
        os.close(fd)


def _check(done: Completed, program: str) -> None:
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()[-300:]
        raise Unknown(f"{os.path.basename(program)} failed: {said}")


def _program(kind: str, uuid: str) -> list[str]:
    if kind in ("ext2", "ext3", "ext4"):
        words = ["-q", "-F", *(["-U", uuid] if uuid else [])]
    elif kind == "xfs":
        words = ["-q", *(["-m", f"uuid={uuid}"] if uuid else [])]
    else:
        raise InvalidArgument(f"unsupported filesystem {kind[:40]!r}: give ext2, ext3, ext4 or xfs")
    program = shutil.which(f"mkfs.{kind}", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if program is None:
        raise Unimplemented(f"mkfs.{kind} is not installed")
    return [program, *words]


def _size(text: str) -> int:
    if not text:
        raise InvalidArgument("mkfs requires mkfs.size option")
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise InvalidArgument(f"mkfs: size {text[:40]!r} is none such as 64M or 2GiB")
    size = int(match[1]) << (10 * " kmgtp".index(match[2].lower() or " "))
    if size > _SIZE_MAX:
        raise InvalidArgument(f"mkfs: size {text[:40]!r} is more than {_SIZE_MAX} bytes")
    return size


@contextmanager
def _folder_of(path: Path, roots: Sequence[Path], what: str) -> Iterator[tuple[int, str]]:
    """Yield an fd of the folder that `path` is in, and its last name."""
    for root in roots:
        if path != root and path.is_relative_to(root) and ".." not in path.parts:
            rest = path.relative_to(root)
            base = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                folder = openat2(
                    base,
                    str(rest.parent),
                    os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC,
                    resolve=_RESOLVE,
                )
            except OSError as err:
                raise InvalidArgument(f"{what} {path}: {err.strerror}") from err
            finally:
                os.close(base)
            try:
                yield folder, rest.name
            finally:
                os.close(folder)
            return
    raise Unimplemented(f'no root "{path}" configured for {what}')
