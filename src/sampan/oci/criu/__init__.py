"""Checkpoint and restore: a container's processes as files, by CRIU, and back.

    options = CheckpointOptions(image_path="/images/c1", leave_running=True)
    checkpoint(container, options)
    container = restore(root="/run/sampan/oci", id="c1", bundle="/b", options=options)

CRIU does the work; it is spoken to over its RPC (`criu swrk`), since only there it hands back the
masters of terminals and tells when hooks are due. What is ours is what CRIU cannot know:

    <image path>/descriptors.json    what 0, 1 and 2 were, as runc writes it: pipes come back as the
                                     caller's stdio
                 sampan.json         stdio that were files of the host: their names in the image
    bind mounts, masks, cgroups, namespaces by path: declared external, named by the place where
    they are in the container

A restored init is a child of the caller, as one from `create` is. Where CRIU or the kernel refuses,
`CheckpointFailed` says which feature is missing, in CRIU's own words, and where its log is.

Source: criu(8); the messages of its rpc.proto.
"""

from __future__ import annotations

from sampan.errors import FailedPrecondition

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from sampan.oci.criu.dump import checkpoint
    from sampan.oci.criu.undump import restore

__all__ = ["CheckpointFailed", "CheckpointOptions", "checkpoint", "restore"]

_HOMES = {"checkpoint": "dump", "restore": "undump"}


class CheckpointFailed(FailedPrecondition):
    """CRIU could not do it; the text has its reasons, and the path of its log."""


class CheckpointOptions:
    """What the flags of `checkpoint` and `restore` say; the names are runc's."""

    __slots__ = (
        "auto_dedup", "criu", "empty_ns", "ext_unix_sk", "file_locks", "image_path", "lazy_pages",
        "leave_running", "link_remap", "lsm_profile", "manage_cgroups_mode", "page_server",
        "parent_path", "pre_dump", "shell_job", "status_fd", "tcp_established",
        "tcp_skip_in_flight", "work_path",
    )  # fmt: skip

    def __init__(
        self,
        image_path: str,
        *,
        work_path: str = "",
        parent_path: str = "",
        leave_running: bool = False,
        tcp_established: bool = False,
        tcp_skip_in_flight: bool = False,
        ext_unix_sk: bool = False,
        shell_job: bool = False,
        lazy_pages: bool = False,
        status_fd: int = -1,
        page_server: str = "",
        file_locks: bool = False,
        pre_dump: bool = False,
        manage_cgroups_mode: str = "",
        empty_ns: Sequence[str] = (),
        auto_dedup: bool = False,
        link_remap: bool = False,
        lsm_profile: str = "",
        criu: str = "",
    ) -> None:
        self.image_path = image_path
        """Folder of the images; made by a checkpoint."""
        self.work_path = work_path
        """Folder of logs and statistics; empty is the image path."""
        self.parent_path = parent_path
        """Of an earlier pre-dump, relative to `image_path`."""
        self.leave_running = leave_running
        self.tcp_established = tcp_established
        self.tcp_skip_in_flight = tcp_skip_in_flight
        self.ext_unix_sk = ext_unix_sk
        self.shell_job = shell_job
        self.lazy_pages = lazy_pages
        self.status_fd = status_fd
        """Borrowed; CRIU writes a zero byte there when lazy pages can be had. -1 is none."""
        self.page_server = page_server
        """`ADDRESS:PORT` that takes the pages."""
        self.file_locks = file_locks
        self.pre_dump = pre_dump
        """Only memory, while the container runs on."""
        self.manage_cgroups_mode = manage_cgroups_mode
        """soft, full, strict or ignore; empty is soft."""
        self.empty_ns = tuple(empty_ns)
        """Kinds of namespace to be made empty instead of saved: `network`."""
        self.auto_dedup = auto_dedup
        self.link_remap = link_remap
        self.lsm_profile = lsm_profile
        """`TYPE:NAME` of the profile to restore with, instead of the one at the checkpoint."""
        self.criu = criu
        """Path of the program; empty is a search by PATH."""


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(name)
    return getattr(__import__(f"{__name__}.{home}", fromlist=[name]), name)
