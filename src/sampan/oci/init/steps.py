"""What a new process does between clone3 and execve, one step a line, in the order of the calls.

The order is the knowledge. Nothing is imported or looked up by name service here; all was planned.

    child                                       parent
      close all fds but the listed ones
      join the cgroups of v1
      <- "go" ------------------------------------ id maps written, other cgroups joined
      non-dumpable, session, namespaces, root in the user namespace
      mounts, nodes                              ("hooks" -> prestart, createRuntime -> "go")
      createContainer hooks, pivot, read-only, masks, host name, sysctl, limits, user, seccomp,
      executable found
      -> "ready" ---------------------------------- state is written: created
      reads one byte from the exec fifo  <-------- start
      startContainer hooks
      execve
Any failure is {"error": text, "code": exit code} instead, and the end.
"""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import stat
import struct
import sys
import termios

from sampan.errors import FailedPrecondition
from sampan.linux import (
    capabilities,
    fds,
    keyring,
    paths,
    prctl,
    process,
    scheduling,
    seccomp,
    signals,
)
from sampan.linux import mounts as mnt
from sampan.linux import namespaces as ns
from sampan.model.runtime.document import dumps
from sampan.oci.hooks import run_hooks
from sampan.oci.init import program
from sampan.oci.init.program import ExecFailed
from sampan.oci.rootfs import build

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from sampan.model.runtime.hooks import Hook
    from sampan.oci.birth import Birth

__all__ = ["ExecFailed", "join_cgroups", "run"]

_TIOCSCTTY, _TIOCGPTPEER, _TIOCSWINSZ = 0x540E, 0x5441, 0x5414
_SIOCSIFFLAGS, _SIOCGIFFLAGS, _IFF_UP = 0x8914, 0x8913, 1
_LATE_LIMITS = (process.RLIMITS["RLIMIT_AS"], process.RLIMITS["RLIMIT_DATA"])
"""Limits on memory that Python itself needs up to its last call."""
_ALL_CPUS = range(8192 if (os.cpu_count() or 1) > 1024 else 1024)
_KEY_USR_SEARCH = 0x00080000


def run(birth: Birth) -> NoReturn:
    """Be the child until execve. Never returns; exits with 1 after reporting a failure."""
    code = 1
    try:
        _take_steps(birth)
    except ExecFailed as err:
        _report(birth, str(err), err.code)
        code = 255 if birth.started else err.code
    except (OSError, build.BuildError, FailedPrecondition) as err:
        _report(birth, f"error during container init: {_words(err)}", 1)
    except BaseException as err:  # noqa: BLE001  nothing above us could hear of it
        _report(birth, f"error during container init: {type(err).__name__}: {err}", 1)
    os._exit(code)


def _take_steps(birth: Birth) -> None:
    plan = birth.process
    fds.close_all_but(birth.kept_fds())
    join_cgroups(birth)
    _take_stdio(birth)
    _expect_go(birth)
    prctl.set_dumpable(False)
    signals.reset_dispositions()
    if plan.resets_affinity:
        # To all that the cpuset allows, whatever the caller was bound to.
        os.sched_setaffinity(0, _ALL_CPUS)
    os.setsid()
    _join_namespaces(birth)
    if birth.namespaces_have_user:
        _become_root_inside()
    if birth.keyring:
        session = keyring.join_session(birth.keyring)
        keyring.set_permissions(session, add=_KEY_USR_SEARCH)
    if birth.new_flags & ns.CLONE_NEWNET:
        _loopback_up()
    if birth.new_flags & ns.CLONE_NEWCGROUP:
        ns.unshare(ns.CLONE_NEWCGROUP)
    root = -1
    if birth.rootfs is not None:
        os.umask(0o022)
        root = build.prepare_root(birth.rootfs)
    if birth.asks_hooks:
        _tell(birth, {"hooks": True})
        _expect_go(birth)
    if birth.create_hooks:
        os.fchdir(root)
        _run_hooks(birth, "createContainer", birth.create_hooks, "creating")
    if birth.rootfs is not None:
        build.enter_root(birth.rootfs, root)
        os.close(root)
    elif birth.chroot:
        os.chroot(birth.chroot)
        os.chdir("/")
    if plan.terminal:
        _open_console(birth)
    _reopen_null(birth)
    if birth.hostname:
        ns.sethostname(birth.hostname)
    if birth.domainname:
        ns.setdomainname(birth.domainname)
    if birth.sysctls:
        _write_sysctls(birth)
    if birth.rootfs is not None:
        if birth.rootfs.readonly:
            _make_cwd(plan.cwd)
        build.finish_root(birth.rootfs)
    if plan.apparmor or plan.selinux:
        _set_label(plan.apparmor or plan.selinux, apparmor=bool(plan.apparmor))
    if plan.personality is not None:
        process.personality(plan.personality)
    if plan.memory_policy is not None:
        _set_memory_policy(*plan.memory_policy)
    for number, soft, hard in plan.rlimits:
        if number in _LATE_LIMITS:
            _allow_limit(number, hard)
        else:
            _limit(number, soft, hard)
    os.umask(plan.umask)
    # Without noNewPrivileges a filter needs CAP_SYS_ADMIN, which may be gone after the drop.
    if plan.seccomp is not None and not plan.no_new_privileges:
        _load_seccomp(birth)
    _become_user(birth)
    environment = _environment(birth)
    if plan.no_new_privileges:
        prctl.set_no_new_privs()
    executable = program.find(plan.args[0], plan.path)
    argv = process.encode_strings(plan.args)
    envp = process.encode_strings([k + b"=" + v for k, v in environment.items()])
    if plan.seccomp is not None and plan.no_new_privileges:
        _load_seccomp(birth)
    _announce_ready(birth)
    if birth.fifo_fd >= 0:
        os.read(birth.fifo_fd, 1)
    birth.started = True
    if birth.start_hooks:
        _run_hooks(birth, "startContainer", birth.start_hooks, "created", environment)
    signals.reset_mask()
    for fd in birth.passed_fds:
        fds.set_cloexec(fd, False)
    for number, soft, hard in plan.rlimits:
        if number in _LATE_LIMITS:
            _limit(number, soft, hard)
    _exec(executable, argv, envp)


def join_cgroups(birth: Birth) -> None:
    """Join what `Manager.open_tasks` has opened, and close it."""
    for fd, path in birth.cgroup_fds:
        try:
            os.write(fd, b"0")
        except OSError as err:
            raise OSError(err.errno, f"joining the cgroup: {err.strerror}", path) from err
        os.close(fd)
    birth.cgroup_fds = []


def _take_stdio(birth: Birth) -> None:
    """Put the three fds in place; they may stand at each other's numbers."""
    if birth.process.terminal:
        while (fd := os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)) <= 2:
            pass  # the numbers are taken until the terminal is there
        os.close(fd)
        return
    safe = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3) for fd in birth.stdio]
    for number, fd in enumerate(safe):
        os.dup2(fd, number, inheritable=True)
        os.close(fd)
    for fd in set(birth.stdio) - {0, 1, 2} - set(birth.other_fds()):
        os.close(fd)


def _expect_go(birth: Birth) -> None:
    if os.read(birth.sync_fd, 16) != b"go":
        os._exit(1)  # the parent died or gave up; there is nobody to tell


def _tell(birth: Birth, message: dict[str, object]) -> None:
    os.write(birth.sync_fd, dumps(message).encode())


def _report(birth: Birth, text: str, code: int) -> None:
    try:
        if birth.started:
            os.write(2, os.fsencode(text) + b"\n")
        else:
            _tell(birth, {"error": text, "code": code})
    except OSError:
        pass


def _words(err: BaseException) -> str:
    if isinstance(err, OSError):
        where = f" {os.fsdecode(err.filename)}" if err.filename else ""
        return f"{err.strerror or err}{where}"
    return str(err)


def _join_namespaces(birth: Birth) -> None:
    if birth.target_pidfd >= 0:
        ns.setns(birth.target_pidfd, birth.target_flags)
        os.close(birth.target_pidfd)
    for fd, kind in birth.joins:
        ns.setns(fd, kind)
        os.close(fd)


def _become_root_inside() -> None:
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    prctl.set_dumpable(False)


def _loopback_up() -> None:
    control = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    request = struct.pack("16sH14x", b"lo", 0)
    flags = struct.unpack("16sH14x", fcntl.ioctl(control.fileno(), _SIOCGIFFLAGS, request))[1]
    fcntl.ioctl(control.fileno(), _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", flags | _IFF_UP))
    control.close()


def _open_console(birth: Birth) -> None:
    """Make the terminal from the container's own devpts and send its master to the parent."""
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    if os.fstat(master).st_rdev >> 8 & 0xFFF not in (5, 128, 136):
        raise OSError(errno.ENOTTY, "/dev/ptmx is no terminal multiplexer")
    fcntl.ioctl(master, 0x40045431, struct.pack("i", 0))  # TIOCSPTLCK
    slave = fcntl.ioctl(master, _TIOCGPTPEER, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    attributes = termios.tcgetattr(slave)
    attributes[1] &= ~termios.ONLCR
    termios.tcsetattr(slave, termios.TCSANOW, attributes)
    if birth.process.console_size is not None:
        rows, columns = birth.process.console_size
        fcntl.ioctl(slave, _TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))
    birth.send_console(master)
    os.close(master)
    os.fchown(slave, birth.process.uid, -1)
    if birth.rootfs is not None:
        create = os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open("/dev/console", create, 0o600))

        point = os.open("/dev/console", os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        mnt.mount(paths.fd_path(slave), paths.fd_path(point), "bind", mnt.MS_BIND)
        os.close(point)
    fcntl.ioctl(slave, _TIOCSCTTY, 0)
    for number in (0, 1, 2):
        os.dup2(slave, number, inheritable=True)
    if slave > 2:
        os.close(slave)


def _reopen_null(birth: Birth) -> None:
    """Replace the host's /dev/null at 0-2 by the container's, lest its owner or flags leak in."""
    if birth.rootfs is None or not birth.rootfs.make_dev or birth.process.terminal:
        return
    null = os.makedev(1, 3)
    for number in (0, 1, 2):
        info = os.fstat(number)
        if stat.S_ISCHR(info.st_mode) and info.st_rdev == null:
            fresh = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            os.dup2(fresh, number, inheritable=True)
            os.close(fresh)


def _write_sysctls(birth: Birth) -> None:
    with paths.ProcHandle() as proc:
        for name, value in birth.sysctls:
            proc.write(b"sys/" + name, value)


def _set_label(label: bytes, *, apparmor: bool) -> None:
    try:
        with paths.ProcHandle(subset_pid=True) as proc:
            if not apparmor:
                proc.write(b"thread-self/attr/exec", label)
                return
            try:
                proc.write(b"thread-self/attr/apparmor/exec", b"exec " + label)
            except FileNotFoundError:
                proc.write(b"thread-self/attr/exec", b"exec " + label)
    except OSError as err:
        what = "apparmor profile" if apparmor else "selinux label"
        text = f"unable to apply {what} {os.fsdecode(label)}: {err.strerror}"
        raise OSError(err.errno, text) from err


def _limit(number: int, soft: int, hard: int) -> None:
    try:
        process.prlimit(0, number, (soft, hard))
    except OSError as err:
        raise OSError(err.errno, f"error setting rlimit type {number}: {err.strerror}") from err


def _allow_limit(number: int, hard: int) -> None:
    """Raise a hard limit while we may; the limit itself would be too little for an interpreter."""
    soft, current = process.prlimit(0, number)
    if hard > current:
        _limit(number, soft, hard)


def _set_memory_policy(mode: int, nodes: int) -> None:
    try:
        scheduling.set_mempolicy(mode, nodes)
    except OSError as err:
        raise OSError(err.errno, f"error setting memory policy: {err.strerror}") from err


def _run_hooks(
    birth: Birth,
    name: str,
    hooks: Sequence[Hook],
    status: str,
    environment: dict[bytes, bytes] | None = None,
) -> None:
    """Run hooks as what we are by now; they see our pid as we do."""
    state = {**birth.hook_state, "status": status, "pid": os.getpid()}
    run_hooks(name, hooks, dumps(state).encode(), environment=environment)


def _load_seccomp(birth: Birth) -> None:
    plan = birth.process.seccomp
    assert plan is not None  # noqa: S101
    listener = seccomp.load(plan.bpf, plan.flags)
    if plan.listener_path:
        birth.send_listener(listener)
        os.close(listener)


def _become_user(birth: Birth) -> None:
    """Ids and capabilities. Groups first, the bounding set before setuid, the rest after it."""
    plan = birth.process
    wanted = plan.capabilities
    if wanted is not None:
        capabilities.bounding_drop(wanted.bounding)
    prctl.set_keepcaps(True)
    os.chdir("/")
    entered = _chdir(plan.cwd)
    if birth.may_set_groups:
        os.setgroups(plan.groups)
    os.setresgid(plan.gid, plan.gid, plan.gid)
    os.setresuid(plan.uid, plan.uid, plan.uid)
    if not entered:
        try:
            os.chdir(plan.cwd)
        except OSError as err:
            shown = os.fsdecode(plan.cwd)
            raise OSError(
                err.errno, f'chdir to cwd ("{shown}") set in config.json failed: {err.strerror}'
            ) from err
    _verify_cwd()
    prctl.set_keepcaps(False)
    if wanted is None:
        return
    _, available, _ = capabilities.capget()
    permitted = wanted.permitted & available
    inheritable = wanted.inheritable & (available | capabilities.capget()[2])
    capabilities.capset(wanted.effective & permitted, permitted, inheritable)
    capabilities.ambient_clear()
    for number in range(64):
        if wanted.ambient >> number & 1 and permitted & inheritable & 1 << number:
            capabilities.ambient_raise(number)


def _make_cwd(cwd: bytes) -> None:
    """Make the working folder, as `_chdir` would, while the root can still be written to."""
    try:
        os.makedirs(cwd, 0o755, exist_ok=True)
    except OSError:
        return  # read-only by itself, or a file is in the way: chdir says what is wrong


def _chdir(cwd: bytes) -> bool:
    try:
        os.chdir(cwd)
    except FileNotFoundError:
        os.makedirs(cwd, 0o755, exist_ok=True)
        os.chdir(cwd)
    except PermissionError:
        return False  # the user may be allowed where root of a user namespace is not
    return True


def _verify_cwd() -> None:
    # CVE-2024-21626: a cwd through a leaked fd lies outside of our root, which getcwd says.
    try:
        inside = os.getcwdb().startswith(b"/")
    except FileNotFoundError:
        inside = False
    except OSError:
        return  # a seccomp filter may block getcwd
    if not inside:
        raise OSError(errno.EXDEV, "current working directory is outside of container mount "
                      "namespace root -- possible container breakout detected")  # fmt: skip


def _environment(birth: Birth) -> dict[bytes, bytes]:
    environment = birth.process.env
    if not environment.get(b"HOME"):
        environment[b"HOME"] = program.home(birth.process.uid)
    return environment


def _announce_ready(birth: Birth) -> None:
    message: dict[str, object] = {"ready": True}
    if birth.debug_modules:
        message["modules"] = sorted(sys.modules)
    _tell(birth, message)
    os.close(birth.sync_fd)


def _exec(executable: bytes, argv: object, envp: object) -> NoReturn:
    try:
        process.execveat(-100, executable, argv, envp)
    except OSError as err:
        shown = os.fsdecode(executable)
        code = 127 if err.errno == errno.ENOENT else 126
        raise ExecFailed(
            f"exec {shown}: {(err.strerror or '').rpartition(': ')[2].lower()}", code
        ) from err
    raise AssertionError
