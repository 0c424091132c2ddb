"""`containerd-shim-sampan-v2`: the shim as a program, as containerd starts it.

    … -namespace NS -id ID -address SOCK [-publish-binary BIN] [-bundle DIR] [-debug] start|delete
    … -info | -v

start   prints the address of the group's shim: of one that lives, or of one that it forks
delete  cleans up behind a shim that died; prints a DeleteResponse

Answers. containerd 2.3 writes BootstrapParams (protobuf) to stdin and reads BootstrapResult;
2.0 says MAX_SHIM_VERSION=3 and reads JSON; before that, the plain address.

Source: containerd core/runtime/v2, pkg/shim.
"""

from __future__ import annotations

import os
import sys

from sampan.errors import SampanError
from sampan.linux import fds as linux_fds
from sampan.model.runtime.document import dumps, loads
from sampan.shim.config import Config
from sampan.shim.sockets import alive, bind

try:  # `hashlib` would load OpenSSL, which takes as long as all of ours
    from _sha256 import sha256  # type: ignore[import-not-found]
except ImportError:
    from _sha2 import sha256  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.rpc.messages.bootstrap import BootstrapParams

__all__ = ["main", "socket_path"]

_GROUPS = ("io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id")
_SOCKETS = "/run/containerd/s"
_NAME = "io.containerd.sampan.v2"
_KILLED = 137
_FEATURES = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"


def socket_path(address: str, namespace: str, id: str, folder: str = _SOCKETS) -> str:
    """Return where the shim of a group listens: a hash, since socket paths are short."""
    name = os.path.normpath("/".join(part for part in (address, namespace, id) if part))
    return f"{folder}/{sha256(name.encode()).hexdigest()}"


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status, and in the forked server does not return before."""
    flags, command = _parse(sys.argv[1:] if arguments is None else arguments)
    try:
        if "v" in flags:
            from sampan import __version__

            return _print(f"containerd-shim-sampan-v2:\n  Version:  {__version__}\n".encode())
        if "info" in flags:
            return _print(_info())
        if command == "start":
            return _start(flags)
        if command == "delete":
            return _print(_delete(flags))
        raise SystemExit(f"{_NAME}: unknown command {command!r}; use start or delete")
    except (SampanError, OSError) as err:
        sys.stderr.write(f"{_NAME}: {err}\n")
        return 1


def _parse(arguments: list[str]) -> tuple[dict[str, str], str]:
    """Read flags as Go's flag package does: one dash or two, `-k v` or `-k=v`."""
    flags: dict[str, str] = {}
    rest = iter(arguments)
    for argument in rest:
        if not argument.startswith("-"):
            return flags, argument
        name, equals, value = argument.lstrip("-").partition("=")
        if name in ("debug", "info", "v"):
            flags[name] = value or "true"
        elif equals:
            flags[name] = value
        else:
            flags[name] = next(rest, "")
    return flags, ""


def _print(data: bytes) -> int:
    linux_fds.write_all(1, data)
    return 0


def _info() -> bytes:
    from sampan import __version__
    from sampan.oci.features import features
    from sampan.rpc.messages.types import RuntimeInfo, RuntimeVersion
    from sampan.rpc.messages.wellknown import Any

    document = dumps(features()).encode()
    return bytes(
        RuntimeInfo(
            name=_NAME,
            version=RuntimeVersion(version=__version__),
            features=Any(type_url=_FEATURES, value=document),
        )
    )


def _stdin() -> bytes:
    """Return what containerd wrote, or nothing when stdin is a terminal or closed."""
    if os.isatty(0):
        return b""
    data = b""
    try:
        while chunk := os.read(0, 65536):
            data += chunk
    except OSError:
        return b""
    return data


def _bootstrap(flags: dict[str, str]) -> BootstrapParams | None:
    """Return the parameters of containerd 2.3, if that is who calls.

    Older ones write an Any of options, which may decode as anything: the names decide.
    """
    data = _stdin()
    if not data:
        return None
    from sampan.rpc.messages.bootstrap import BootstrapParams

    try:
        params = BootstrapParams.decode(data)
    except SampanError:
        return None
    named = params.instance_id == flags.get("id") and params.namespace == flags.get("namespace")
    return params if named and params.instance_id else None


def _group(bundle: str, id: str) -> str:
    try:
        with open(os.path.join(bundle, "config.json"), "rb") as file:
            annotations = loads(file.read()).get("annotations") or {}
    except (OSError, ValueError, AttributeError):
        return id
    return next((annotations[key] for key in _GROUPS if annotations.get(key)), id)


def _start(flags: dict[str, str]) -> int:
    bundle = os.getcwd()
    params = _bootstrap(flags)
    namespace, name = flags.get("namespace", ""), flags.get("id", "")
    if not namespace or not name:
        raise SystemExit(f"{_NAME}: start needs -namespace and -id")
    folder = (params.socket_dir if params and params.socket_dir else "") or _SOCKETS
    path = socket_path(flags.get("address", ""), namespace, _group(bundle, name), folder)
    publish = os.environ.get("TTRPC_ADDRESS", "")
    if params is not None and params.containerd_ttrpc_address:
        publish = params.containerd_ttrpc_address
    address = f"unix://{path}"
    answer = _answer(address, params)
    _write(os.path.join(bundle, "address"), address)
    if alive(path):
        return _print(answer)
    if os.path.lexists(path):
        os.unlink(path)
    config = Config(
        id=name, namespace=namespace, socket=path, bundle=bundle, publish=publish, log_fd=0
    )
    return _fork(config, answer)


def _answer(address: str, params: BootstrapParams | None) -> bytes:
    version = 3 if os.environ.get("MAX_SHIM_VERSION", "2") >= "3" else 2
    if params is not None:
        from sampan.rpc.messages.bootstrap import BootstrapResult

        return bytes(BootstrapResult(version=3, address=address, protocol="ttrpc"))
    if version > 2:
        values = {"version": version, "address": address, "protocol": "ttrpc"}
        return dumps(values).encode()
    return address.encode()


def _write(path: str, text: str) -> None:
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w") as file:
        file.write(text)
    os.rename(temporary, path)


def _fork(config: Config, answer: bytes) -> int:
    """Listen, fork the server, print the answer: whoever reads it can connect.

    The server loads what it needs while its caller reads that.
    """
    listener = bind(config.socket)
    pid = os.fork()  # noqa: TID251
    if pid:
        listener.close()
        _write(os.path.join(config.bundle, "shim.pid"), str(pid))
        return _print(answer)
    os.setsid()
    os.umask(0o022)
    log = _open_log(config.bundle)
    null = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(null, number, inheritable=True)
    fds = [log] if log >= 0 else []
    if log < 0:
        config.log_fd = -1
    linux_fds.close_all_but([0, 1, 2, listener.fileno(), *fds])
    _adjust_oom_score()
    import socket

    from sampan.shim import serve

    try:
        return serve.run(config, fds, socket.socket(fileno=listener.detach()))
    except BaseException as error:
        serve.Log(log).error(error)
        raise


def _open_log(bundle: str) -> int:
    """Open containerd's log fifo; both ways, so that it breaks with no reader."""
    try:
        flags = os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC
        return os.open(os.path.join(bundle, "log"), flags)
    except OSError:
        return -1


def _adjust_oom_score() -> None:
    """Be as hard to kill as the daemon is, plus one."""
    try:
        with open(f"/proc/{os.getppid()}/oom_score_adj") as file:
            score = int(file.read())
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(min(1000, score + 1)))
    except (OSError, ValueError):
        return


def _delete(flags: dict[str, str]) -> bytes:
    """Kill what a dead shim has left, unmount, and tell containerd that it was killed."""
    import time

    from sampan.rpc.messages.task import DeleteResponse
    from sampan.rpc.messages.wellknown import Timestamp
    from sampan.shim import rootfs
    from sampan.shim.memo import recall

    bundle = flags.get("bundle") or os.getcwd()
    name, namespace = flags.get("id", ""), flags.get("namespace", "")
    pid = 0
    binary, root = recall(bundle, os.path.join("/run/sampan/oci", namespace))
    if binary:
        pid = _delete_by(binary, root, name)
    else:
        from sampan import oci

        try:  # noqa: SIM105
            pid = oci.discard(root, name)
        except SampanError:
            pass
    rootfs.unmount_all(os.path.join(bundle, "rootfs"))
    _remove_socket(bundle)
    now = Timestamp.of_ns(time.time_ns())
    return bytes(DeleteResponse(pid=pid, exit_status=_KILLED, exited_at=now))


def _remove_socket(bundle: str) -> None:
    """Remove the dead shim's socket, unless another shim of its group listens there."""
    try:
        with open(os.path.join(bundle, "address")) as file:
            path = file.read().removeprefix("unix://")
        if not alive(path):
            os.unlink(path)
    except OSError:
        return


def _delete_by(binary: str, root: str, name: str) -> int:
    """Have the runtime that made the container delete it; return the pid of its init, or 0."""
    import subprocess

    known = subprocess.run(
        [binary, "--root", root, "state", name], capture_output=True, check=False, timeout=30
    )
    subprocess.run(
        [binary, "--root", root, "delete", "--force", name],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False, timeout=30,
    )  # fmt: skip
    try:
        return int(loads(known.stdout)["pid"])
    except (ValueError, KeyError, TypeError):
        return 0


if __name__ == "__main__":
    sys.exit(main())
