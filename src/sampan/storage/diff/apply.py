"""A layer's entries onto a folder, by dirfds and nothing but dirfds. Runs in a confined worker.

Each entry's parent is resolved once, inside the target (openat2 with RESOLVE_IN_ROOT, symlinks of
lower layers included), to an fd that is kept; the entry itself is made under its last name alone,
with O_EXCL or its like, so that no symlink is ever followed there. What stands in the way is
removed first, as a layer says what is to be, not what to change.

    plain      whiteouts remove what they name; the target shows the layers below (native, or an
               overlay that is mounted)
    overlay    the target is a bare upper folder: whiteouts become nodes, opaque folders attributes,
               and parents that the layer does not list are reported, for the fix-up at the rebase

Source: image-spec layer.md; containerd pkg/archive for what is ignored (see `_attributes`).
"""

from __future__ import annotations

import errno
import os
import stat

from sampan.errors import InvalidArgument
from sampan.linux.paths import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2
from sampan.storage import whiteouts
from sampan.storage.compression import Stream
from sampan.storage.diff.reading import MissingLink, entries, name_parts
from sampan.storage.tar import (
    BLOCK_DEVICE,
    CHAR_DEVICE,
    DIRECTORY,
    FIFO,
    FILE,
    HARD_LINK,
    SYMLINK,
    Caps,
    Entry,
)
from sampan.storage.tar.sparse import Map10, checked
from sampan.storage.trees import remove_tree, set_folder_time

__all__ = ["Applier"]

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RESOLVE = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_KEPT_FDS = 200
_OVERLAY_ATTRIBUTES = (b"trusted.overlay.", b"user.overlay.")


class _Folder:
    """An open folder of the target: an O_PATH fd, and whether it hands its group down."""

    __slots__ = ("fd", "setgid")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.setgid = bool(os.fstat(fd).st_mode & stat.S_ISGID)


class Applier:
    """One layer's way onto one folder. Sets the umask of its process to 0: workers only."""

    def __init__(
        self,
        root_fd: int,
        *,
        overlay: bool = False,
        userxattr: bool = False,
        ids: tuple[int, int] | None = None,
        literal: bool = False,
        caps: Caps | None = None,
    ) -> None:
        """Work below `root_fd`, which stays the caller's.

        Args:
          root_fd: The target folder.
          overlay: Whether it is a bare upper folder.
          userxattr: Whether overlay's attributes are those of the `user.` class.
          ids: An owner to give everything instead of the archive's, for rootless use; None obeys.
          literal: It is no layer: names of whiteouts are names like others.
          caps: The most to accept.
        """
        self.implicit: list[bytes] = []
        """Folders that were made because entries lie below them, and were never listed."""
        self.entries = 0
        self._root = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root_fd)
        self._overlay = overlay
        self._userxattr = userxattr
        self._ids = ids
        self._prefix = b"\0" if literal else whiteouts.PREFIX
        self._caps = caps or Caps()
        self._me = (os.geteuid(), os.getegid())
        self._folders: dict[bytes, _Folder] = {b"": _Folder(os.dup(self._root))}
        self._times: dict[bytes, int] = {}
        self._made: set[bytes] = set()
        self._opaque: set[bytes] = set()
        os.umask(0)

    def close(self) -> None:
        """Close the folders."""
        for folder in self._folders.values():
            os.close(folder.fd)
        self._folders.clear()
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def apply(self, stream: Stream) -> None:
        """Put all entries of `stream` into place, then set the folders' times.

        Raises:
          InvalidArgument: the archive is malformed, or an entry is refused; says which.
          ResourceExhausted: beyond the caps.
          MissingLink: the layer needs its parents merged below it.
          OSError: what the file system answers, such as ENOSPC.
        """
        for entry in entries(stream, self._caps):
            self.entries += 1
            try:
                self._put(entry, stream)
            except OSError as err:
                if err.errno in (errno.ENAMETOOLONG, errno.ELOOP, errno.EILSEQ):
                    raise InvalidArgument(
                        f"tar: {entry.name[:160]!r} cannot exist: {err.strerror}"
                    ) from err
                err.add_note(f"while applying {entry.name[:160]!r}")
                raise
        for path, mtime_ns in self._times.items():
            folder = self._open(path)
            if folder is not None:
                set_folder_time(folder.fd, mtime_ns)

    # One entry.

    def _put(self, entry: Entry, stream: Stream) -> None:
        parts = name_parts(entry.name)
        if not parts:
            if entry.type == DIRECTORY:
                self._finish_folder(b"", self._folders[b""], entry)
            else:
                stream.skip(entry.stored)
            return
        if len(parts) > 1 and any(part.startswith(self._prefix) for part in parts[:-1]):
            raise InvalidArgument(f"tar: a whiteout as a folder: {entry.name[:160]!r}")
        name = parts[-1]
        path = b"/".join(parts)
        parent = self._parent(b"/".join(parts[:-1]))
        if name.startswith(self._prefix):
            self._whiteout(parent, parts, name)
            stream.skip(entry.stored)
            return
        kind = entry.type
        if kind == FILE:
            self._file(entry, parent, name, path, stream)
        elif kind == DIRECTORY:
            self._folder(entry, parent, name, path)
        elif kind == SYMLINK:
            self._symlink(entry, parent, name, path)
        elif kind == HARD_LINK:
            self._link(entry, parent, name, path)
        elif kind in (CHAR_DEVICE, BLOCK_DEVICE, FIFO):
            self._node(entry, parent, name, path)
        else:
            raise InvalidArgument(f"tar: unknown type {chr(kind)!r}: {entry.name[:160]!r}")
        self._made.add(path)

    def _file(
        self, entry: Entry, parent: _Folder, name: bytes, path: bytes, stream: Stream
    ) -> None:
        mode = entry.mode
        try:
            fd = os.open(name, _CREATE, mode & 0o777, dir_fd=parent.fd)
        except FileExistsError:
            self._clear(parent, name, path)
            fd = os.open(name, _CREATE, mode & 0o777, dir_fd=parent.fd)
        try:
            if entry.sparse is not None:
                self._sparse(entry, fd, stream)
            elif entry.stored:
                for piece in stream.pieces(entry.stored):
                    done = os.write(fd, piece)
                    while done < len(piece):
                        done += os.write(fd, piece[done:])
            owner = self._owner(entry)
            if owner != self._me or parent.setgid:
                os.fchown(fd, *owner)
            if mode & 0o7000:
                # After the chown, which takes setuid away.
                os.fchmod(fd, mode)
            if entry.xattrs:
                self._attributes(entry, fd)
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
        finally:
            os.close(fd)

    def _sparse(self, entry: Entry, fd: int, stream: Stream) -> None:
        pieces = entry.sparse or []
        if entry.map_in_data:
            reader = Map10(self._caps.sparse)
            found = None
            while found is None:
                if reader.size >= min(entry.stored, self._caps.extended * 2):
                    raise InvalidArgument(f"sparse file: map has no end: {entry.name[:160]!r}")
                block = stream.read(512)
                if not block:
                    raise InvalidArgument("tar: archive is truncated within a sparse map")
                found = reader.feed(block)
            # The data is padded by itself when the map is taken off: both are whole blocks.
            pieces = checked(found, entry.size, entry.stored - reader.size, self._caps.sparse)
        for offset, length in pieces:
            at = offset
            for piece in stream.pieces(length):
                done = 0
                while done < len(piece):
                    done += os.pwrite(fd, piece[done:], at + done)
                at += done
        os.ftruncate(fd, entry.size)

    def _folder(self, entry: Entry, parent: _Folder, name: bytes, path: bytes) -> None:
        opaque = False
        try:
            os.mkdir(name, entry.mode & 0o777, dir_fd=parent.fd)
        except FileExistsError:
            status = os.stat(name, dir_fd=parent.fd, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                # A folder in the place of a whiteout must not show what the whiteout hid.
                opaque = self._overlay and whiteouts.is_whiteout(status)
                self._clear(parent, name, path)
                os.mkdir(name, entry.mode & 0o777, dir_fd=parent.fd)
        folder = self._keep(path, os.open(name, os.O_PATH | _FOLDER, dir_fd=parent.fd))
        if opaque:
            self._make_opaque(folder)
        self._finish_folder(path, folder, entry)

    def _finish_folder(self, path: bytes, folder: _Folder, entry: Entry) -> None:
        owner = self._owner(entry)
        fd = os.open(".", _FOLDER, dir_fd=folder.fd)
        try:
            status = os.fstat(fd)
            if (status.st_uid, status.st_gid) != owner:
                os.fchown(fd, *owner)
            if stat.S_IMODE(status.st_mode) != entry.mode:
                os.fchmod(fd, entry.mode)
            if entry.xattrs:
                self._attributes(entry, fd)
        finally:
            os.close(fd)
        folder.setgid = bool(entry.mode & stat.S_ISGID)
        self._times[path] = entry.mtime_ns

    def _symlink(self, entry: Entry, parent: _Folder, name: bytes, path: bytes) -> None:
        target = entry.linkname
        if not target or b"\0" in target:
            raise InvalidArgument(f"tar: symlink without a target: {entry.name[:160]!r}")
        try:
            os.symlink(target, name, dir_fd=parent.fd)
        except FileExistsError:
            self._clear(parent, name, path)
            os.symlink(target, name, dir_fd=parent.fd)
        self._finish_node(entry, parent, name)

    def _link(self, entry: Entry, parent: _Folder, name: bytes, path: bytes) -> None:
        parts = name_parts(entry.linkname)
        if not parts:
            raise InvalidArgument(f"tar: hard link to the root: {entry.name[:160]!r}")
        if b"/".join(parts) == path:
            return
        source = self._open(b"/".join(parts[:-1]))
        status = None
        if source is not None:
            try:
                status = os.stat(parts[-1], dir_fd=source.fd, follow_symlinks=False)
            except FileNotFoundError:
                status = None
        if source is None or status is None or (self._overlay and whiteouts.is_whiteout(status)):
            raise MissingLink(
                f"tar: hard link {entry.name[:80]!r} to {entry.linkname[:80]!r}, which is not there"
            )
        if stat.S_ISDIR(status.st_mode):
            raise InvalidArgument(f"tar: hard link to a folder: {entry.name[:160]!r}")
        for _ in range(2):
            try:
                os.link(
                    parts[-1],
                    name,
                    src_dir_fd=source.fd,
                    dst_dir_fd=parent.fd,
                    follow_symlinks=False,
                )
            except FileExistsError:
                self._clear(parent, name, path)
            else:
                return

    def _node(self, entry: Entry, parent: _Folder, name: bytes, path: bytes) -> None:
        kind = {CHAR_DEVICE: stat.S_IFCHR, BLOCK_DEVICE: stat.S_IFBLK, FIFO: stat.S_IFIFO}
        if not (0 <= entry.major < 1 << 12 and 0 <= entry.minor < 1 << 20):
            raise InvalidArgument(
                f"tar: device {entry.major}:{entry.minor} is out of range: {entry.name[:160]!r}"
            )
        if entry.type == CHAR_DEVICE and not entry.major and not entry.minor:
            raise InvalidArgument(f"tar: an overlay whiteout as a device: {entry.name[:160]!r}")
        device = os.makedev(entry.major, entry.minor)
        mode = kind[entry.type] | (entry.mode & 0o777)
        try:
            os.mknod(name, mode, device, dir_fd=parent.fd)
        except FileExistsError:
            self._clear(parent, name, path)
            os.mknod(name, mode, device, dir_fd=parent.fd)
        self._finish_node(entry, parent, name)

    def _finish_node(self, entry: Entry, parent: _Folder, name: bytes) -> None:
        """Set what belongs to a thing that cannot be opened."""
        owner = self._owner(entry)
        if owner != self._me or parent.setgid:
            os.chown(name, *owner, dir_fd=parent.fd, follow_symlinks=False)
        if entry.type != SYMLINK and entry.mode & 0o7000:
            os.chmod(name, entry.mode, dir_fd=parent.fd)
        if entry.xattrs:
            # There is no call that takes a dirfd before Linux 6.13, and /proc may be out of reach.
            os.fchdir(parent.fd)
            try:
                self._attributes(entry, name)
            finally:
                os.fchdir(self._root)
        os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=parent.fd, follow_symlinks=False)

    def _owner(self, entry: Entry) -> tuple[int, int]:
        return self._ids or (entry.uid, entry.gid)

    def _attributes(self, entry: Entry, where: int | bytes) -> None:
        """Set extended attributes, but for overlay's own, which could uncover other folders.

        A file system without a class of attributes, and a user namespace that may not write it,
        lose them, as in containerd.
        """
        for name, value in (entry.xattrs or {}).items():
            if name.startswith(_OVERLAY_ATTRIBUTES):
                continue
            try:
                if isinstance(where, int):
                    os.setxattr(where, name, value)
                else:
                    os.setxattr(where, name, value, follow_symlinks=False)
            except OSError as err:
                if err.errno == errno.EOPNOTSUPP:
                    continue
                if err.errno == errno.EPERM and not name.startswith(b"security.capability"):
                    continue
                raise

    # Whiteouts.

    def _whiteout(self, parent: _Folder, parts: list[bytes], name: bytes) -> None:
        folder = b"/".join(parts[:-1])
        if name == whiteouts.OPAQUE:
            if self._overlay:
                self._make_opaque(parent)
            elif folder not in self._opaque:
                self._empty(parent, folder)
            self._opaque.add(folder)
            return
        if name.startswith(whiteouts.RESERVED):
            # AUFS kept its own books under these names; they are no part of the tree.
            return
        hidden = name[len(whiteouts.PREFIX) :]
        if hidden in (b"", b".", b".."):
            raise InvalidArgument(f"tar: whiteout of nothing: {b'/'.join(parts)[:160]!r}")
        path = b"/".join([*parts[:-1], hidden])
        if path in self._made:
            # It is meant for the layers below; of ours, a folder must then hide theirs.
            if self._overlay and (there := self._open(path)) is not None:
                self._make_opaque(there)
            return
        self._clear(parent, hidden, path)
        if self._overlay:
            whiteouts.make_whiteout(hidden, parent.fd)

    def _make_opaque(self, folder: _Folder) -> None:
        fd = os.open(".", _FOLDER, dir_fd=folder.fd)
        try:
            whiteouts.make_opaque(fd, userxattr=self._userxattr)
        finally:
            os.close(fd)

    def _empty(self, folder: _Folder, path: bytes) -> None:
        """Remove what lower layers have in a folder, at any depth; keep what this one has made."""
        prefix = path + b"/" if path else b""
        fd = os.open(".", _FOLDER, dir_fd=folder.fd)
        try:
            for name in map(os.fsencode, os.listdir(fd)):
                inner = prefix + name
                if inner in self._made:
                    there = self._open(inner)
                    status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                    if there is not None and stat.S_ISDIR(status.st_mode):
                        self._empty(there, inner)
                else:
                    self._clear(folder, name, inner)
        finally:
            os.close(fd)

    # Folders of the target.

    def _parent(self, path: bytes) -> _Folder:
        """Return the folder at `path`, making what is missing of it."""
        found = self._folders.get(path)
        if found is not None:
            return found
        found = self._open(path)
        if found is not None:
            return found
        # Up to what is there and down again, without recursion: names may be 2,000 levels deep.
        missing: list[bytes] = []
        folder: _Folder | None = None
        while folder is None:
            path, _, name = path.rpartition(b"/")
            missing.append(name)
            folder = self._open(path)
        for name in reversed(missing):
            path = path + b"/" + name if path else name
            folder = self._make(folder, name, path)
        return folder

    def _make(self, parent: _Folder, name: bytes, path: bytes) -> _Folder:
        """Make a folder that the layer does not list, unless it is there after all."""
        try:
            os.mkdir(name, 0o755, dir_fd=parent.fd)
        except FileExistsError:
            status = os.stat(name, dir_fd=parent.fd, follow_symlinks=False)
            if self._overlay and whiteouts.is_whiteout(status):
                self._clear(parent, name, path)
                os.mkdir(name, 0o755, dir_fd=parent.fd)
                folder = self._keep(path, os.open(name, os.O_PATH | _FOLDER, dir_fd=parent.fd))
                self._make_opaque(folder)
                return folder
            if self._overlay and stat.S_ISLNK(status.st_mode):
                # It may lead to a folder that only a lower layer has.
                raise MissingLink(f"tar: path through a dangling symlink: {path[:160]!r}") from None
            raise InvalidArgument(
                f"tar: path through something that is no folder: {path[:160]!r}"
            ) from None
        self.implicit.append(path)
        self._made.add(path)
        return self._keep(path, os.open(name, os.O_PATH | _FOLDER, dir_fd=parent.fd))

    def _open(self, path: bytes) -> _Folder | None:
        """Return the folder at `path`, through symlinks inside the root; None if there is none."""
        found = self._folders.get(path)
        if found is not None:
            return found
        try:
            fd = openat2(
                self._root,
                path,
                os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC,
                resolve=_RESOLVE,
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        return self._keep(path, fd)

    def _keep(self, path: bytes, fd: int) -> _Folder:
        if len(self._folders) > _KEPT_FDS:
            for old in list(self._folders)[1 : _KEPT_FDS // 2]:
                if not path.startswith(old + b"/"):
                    os.close(self._folders.pop(old).fd)
        previous = self._folders.pop(path, None)
        if previous is not None:
            os.close(previous.fd)
        folder = self._folders[path] = _Folder(fd)
        return folder

    def _clear(self, parent: _Folder, name: bytes, path: bytes) -> None:
        """Remove what stands at a name, and forget what was known of it."""
        try:
            os.unlink(name, dir_fd=parent.fd)
        except FileNotFoundError:
            return
        except (IsADirectoryError, PermissionError):
            remove_tree(name, parent.fd)
        prefix = path + b"/"
        # A symlink elsewhere may have led into it: what is cached under any other name could be
        # gone too, so that all but the root is opened anew. Replacing is rare.
        for other in [one for one in self._folders if one and one != path]:
            if not path.startswith(other + b"/"):
                os.close(self._folders.pop(other).fd)
        gone = self._folders.pop(path, None)
        if gone is not None:
            os.close(gone.fd)
        for other in [one for one in self._made if one.startswith(prefix)]:
            self._made.discard(other)
        for other in [one for one in self._times if one == path or one.startswith(prefix)]:
            del self._times[other]
