"""A short-lived process between the caller and a container's init, where one clone3 cannot do.

    caller --clone3--> detour                     joins namespaces by path, a user namespace too;
                         |                        makes the time namespace and sets its clocks
                         '--clone3 CLONE_PARENT--> init, a child of the caller

It is needed when a pid namespace is joined (what is inside sees init from its birth, and with
CAP_SYS_PTRACE takes each fd that it has: so all others are closed before),
when a user namespace is joined by path (what init makes must belong to it), when a new
user namespace meets others by path (init, inside the new one, may no longer enter those), and for
time namespaces, which only take children, and clocks only while nobody is inside.

It sends `{"born": true}` with init's pidfd, or `{"error": ...}`, and ends.
"""

from __future__ import annotations

import _socket
import os

from sampan.linux import fds, prctl, process
from sampan.linux import namespaces as ns
from sampan.model.runtime.document import dumps
from sampan.oci.init import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from sampan.oci.birth import Birth
    from sampan.oci.plan.namespaces import NamespacePlan

__all__ = ["run"]


def run(birth: Birth, namespaces: NamespacePlan, flags: int) -> NoReturn:
    """Be the process in between, and in the second child init. Never returns."""
    code = 1
    step = "closing files"
    try:
        fds.close_all_but([*birth.kept_fds(), *namespaces.fds()])
        # Here, not in init: the container's processes see that one from its birth.
        step = "joining the cgroup"
        steps.join_cgroups(birth)
        step = "joining namespaces"
        _join(namespaces)
        if namespaces.new & ns.CLONE_NEWTIME:
            step = "making a time namespace"
            ns.unshare(ns.CLONE_NEWTIME)
            if namespaces.time_offsets:
                step = "setting the clocks of a time namespace"
                ns.set_time_offsets("self", namespaces.time_offsets)
        if not flags & ns.CLONE_NEWUSER:
            prctl.set_dumpable(False)  # else init's id maps could not be written
        step = "cloning init"
        pid, pidfd = process.clone3(flags | process.CLONE_PARENT, exit_signal=0)
        if pid == 0:
            birth.joins = []
            steps.run(birth)
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET, 0, os.dup(birth.sync_fd))
        fds.send_fds(sock, dumps({"born": True}).encode(), [pidfd])
        code = 0
    except OSError as err:
        text = f"error during container init: {step}: {err.strerror or err}"
        os.write(birth.sync_fd, dumps({"error": text, "code": 1, "errno": err.errno}).encode())
    except BaseException as err:  # noqa: BLE001  nothing above us could hear of it
        text = f"error during container init: {step}: {type(err).__name__}: {err}"
        os.write(birth.sync_fd, dumps({"error": text, "code": 1}).encode())
    os._exit(code)


def _join(namespaces: NamespacePlan) -> None:
    """Enter all with the caller's rights that it has rights to, the rest from the user namespace.

    A network namespace of the host can only be entered before, one that belongs to the user
    namespace also after.
    """
    joins = list(namespaces.joins)
    if namespaces.pid_fd >= 0:
        joins.append((namespaces.pid_fd, ns.CLONE_NEWPID))
    later = []
    for fd, kind in joins:
        try:
            ns.setns(fd, kind)
        except PermissionError:
            if namespaces.user_fd < 0:
                raise
            later.append((fd, kind))
    if namespaces.user_fd >= 0:
        # Processes in there may have CAP_SYS_PTRACE over us from now on.
        prctl.set_dumpable(False)
        ns.setns(namespaces.user_fd, ns.CLONE_NEWUSER)
    for fd, kind in later:
        ns.setns(fd, kind)
