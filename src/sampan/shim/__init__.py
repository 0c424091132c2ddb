"""The shim: the process that is parent to a pod's or a container's processes, for their whole life.

It has one thread, one epoll loop and no asyncio; it may outlive every daemon. Forked by a zygote it
is two processes, a small one for life and a server that comes and goes (`keeper`, `rest`). It

    waits for its children (`reaper` alone), and keeps their status and true time until Delete;
    holds their stdio, so that readers may vanish and come back (`stdio`);
    serves Task v2 and v3 and Sandbox over ttrpc (`service`, `sandbox`);
    publishes events to the daemon, in order, again and again while it is away (`publisher`);
    mounts the rootfs given in Create at bundle/rootfs, and unmounts it at Delete (`rootfs`).

Two ways in, one server (`serve`):

    preloaded:worker(payload, fds) forked by the zygote; payload is `Config.to_json()`
    containerd-shim-sampan-v2     exec'd by containerd: start, delete, -info, -v (`main`)

Config. `id` (of the first container, or of the pod), `namespace`, `socket` (path; "" when
`listen_fd` is given), `bundle` (where `address` and `shim.pid` are written, "" for nowhere),
`publish` (path of the daemon's ttrpc socket, "" for none), `oci_root` (states of `sampan.oci` are
in `<oci_root>/<namespace>/<id>`, here and for `cleanup:worker`),
`systemd_cgroup`; and places in `fds`, -1 for none: `listen_fd`, a listening socket;
`connection_fd`, a connected socket to serve at once; `owner_fd`, a pidfd or a socket: when it
becomes readable (the owner died) everything is killed, unmounted and deleted, and the shim exits;
`log_fd`, for its own log. All fds given are the shim's. `rest_s`: how long a forked shim's server
stays with nothing to do, before its memory is given back. `leave_after_s`: how long after the end
of its containers the shim goes by itself (`farewell`); 0: it waits to be told.

stdio of Create and Exec, each of stdin, stdout, stderr:

    ""                    /dev/null
    /path or fifo:///path a fifo, made by the caller. The shim holds both ends: a full fifo blocks
                          the container, a vanished reader loses nothing, a new one goes on. After
                          the process has exited what it wrote is moved for at most 10 s more.
    file:///path          appended, created with mode 0644; may be the same file for both
    binary:///path?k=v    a logger: argv `path k v`, stdout on fd 3, stderr on fd 4, closes fd 5
                          when ready; CONTAINER_ID and CONTAINER_NAMESPACE in its environment
    sampan-log:///path?format=json-file|cri|raw&max-size=BYTES&max-files=N&max-line=BYTES
                          lines with time and stream, written by the shim itself, so that they are
                          kept with no client alive. A file that would grow past max-size (0: never)
                          becomes path.1, and so on up to path.(N-1); default 16 MiB and 3 files.

Beyond containerd's services, `sampan.shim.v1.Shim` offers ReopenLogs (`messages.ReopenLogs`): it
reopens the files of file: and sampan-log: URIs after somebody else has renamed them.

Runtimes. `sampan.oci` in process; with `binary_name` in `containerd.runc.v1.Options`, that program
by exec (`runc_cli`). Events come in this order: create < start < exit < delete, exec-added <
exec-started < exit; a failed Create publishes nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sampan.shim.config import Config
    from sampan.shim.serve import worker

__all__ = ["Config", "worker"]

_HOMES = {"Config": "config", "worker": "serve"}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(name)
    return getattr(__import__(f"sampan.shim.{home}", fromlist=[name]), name)
