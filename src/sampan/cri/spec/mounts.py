"""Mounts of a container: the system's, the pod's files, and those of the request."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from sampan.api.cri.v1 import api_pb2 as pb
from sampan.errors import FailedPrecondition, InvalidArgument
from sampan.model.runtime.defaults import default_mounts
from sampan.model.runtime.linux import IDMapping
from sampan.model.runtime.spec import Mount

__all__ = ["check", "pod_mounts", "requested", "root_propagation", "sorted_mounts", "system"]

_PROPAGATION: Final = {
    pb.PROPAGATION_PRIVATE: "rprivate",
    pb.PROPAGATION_HOST_TO_CONTAINER: "rslave",
    pb.PROPAGATION_BIDIRECTIONAL: "rshared",
}
_EXTRA: Final = frozenset({"noexec", "nodev", "nosuid"})


def check(mounts: object) -> None:
    """Refuse mounts that contradict themselves.

    Raises:
      InvalidArgument: says which and why.
    """
    for one in mounts:  # type: ignore[attr-defined]
        where = f"mount at {one.container_path!r}"
        if not one.container_path:
            raise InvalidArgument("a mount has no container_path")
        if one.recursive_read_only:
            if not one.readonly:
                raise InvalidArgument(f"{where}: recursive_read_only needs readonly")
            if one.propagation != pb.PROPAGATION_PRIVATE:
                raise InvalidArgument(f"{where}: recursive_read_only needs private propagation")
        if set(one.mount_options) - _EXTRA:
            raise InvalidArgument(f"{where}: mount_options may be noexec, nodev and nosuid")
        if one.HasField("image") and one.image.image:
            if not one.readonly:
                raise InvalidArgument(f"{where}: an image volume must be readonly")
            if one.host_path:
                raise InvalidArgument(f"{where}: both an image and a host_path are given")
        elif one.image_sub_path:
            raise InvalidArgument(f"{where}: image_sub_path needs an image")
        if len(one.uidMappings) != len(one.gidMappings):
            raise InvalidArgument(f"{where}: it maps UIDs differently from GIDs")


def system(
    *, privileged: bool, cgroup_writable: bool, bind_sys: bool, taken: frozenset[str]
) -> list[Mount]:
    """Return /proc, /dev, /sys and cgroups, without those whose place the request takes.

    Args:
      privileged: /sys and the cgroups can be written to.
      cgroup_writable: The cgroups can.
      bind_sys: The host's /sys is bound, as the kernel refuses a fresh one in a user namespace that
        does not own the network namespace.
      taken: Destinations of the request.
    """
    mounts = []
    for one in default_mounts(cgroup_writable=privileged or cgroup_writable):
        if os.path.normpath(one.destination) in taken or one.destination == "/dev/shm":  # noqa: S108
            continue
        mounts.append(_sys(one, privileged, bind_sys) if one.destination == "/sys" else one)
    return mounts


def _sys(one: Mount, privileged: bool, bind: bool) -> Mount:
    options = tuple(option for option in one.options if option != "ro")
    if not privileged:
        options = (*options, "ro")
    if bind:
        return Mount(destination="/sys", type="bind", source="/sys", options=("rbind", *options))
    return one.replace(options=options)


def pod_mounts(
    folder: Path, *, host_ipc: bool, readonly: bool, host_network: bool, taken: frozenset[str]
) -> list[Mount]:
    """Return the pod's files and its shared memory, without those whose place the request takes."""
    mode = "ro" if readonly else "rw"
    mounts = []
    for name in ("hostname", "hosts", "resolv.conf"):
        source = folder / name
        if name == "hostname" and host_network and not source.exists():
            continue
        mounts.append(_bind(f"/etc/{name}", str(source), ("rbind", "rprivate", mode)))
    shm = "/dev/shm" if host_ipc else str(folder / "shm")  # noqa: S108
    mounts.append(_bind("/dev/shm", shm, ("rbind", "rprivate", "rw")))  # noqa: S108
    return [one for one in mounts if one.destination not in taken]


def _bind(destination: str, source: str, options: tuple[str, ...]) -> Mount:
    return Mount(destination=destination, type="bind", source=source, options=options)


def requested(mounts: object, images: dict[int, str]) -> list[Mount]:
    """Return the request's mounts; what is missing on the host is made as a folder.

    Args:
      mounts: The request's.
      images: Where the volumes are that stand on images, by place in `mounts`.

    Raises:
      FailedPrecondition: a source cannot be had.
    """
    found = []
    for place, one in enumerate(mounts):  # type: ignore[arg-type, var-annotated]
        source = images.get(place) or _source(one.host_path)
        options = ["rbind", _PROPAGATION.get(one.propagation, "rprivate")]
        options.append("ro" if one.readonly else "rw")
        if one.recursive_read_only:
            options.append("rro")
        options += one.mount_options
        if one.propagation == pb.PROPAGATION_BIDIRECTIONAL:
            _check_shared(source, one.container_path)
        found.append(
            Mount(
                destination=os.path.normpath(one.container_path),
                type="bind",
                source=source,
                options=tuple(options),
                uid_mappings=_mappings(one.uidMappings),
                gid_mappings=_mappings(one.gidMappings),
            )
        )
    return found


def _mappings(given: object) -> tuple[IDMapping, ...]:
    return tuple(
        IDMapping(container_id=one.container_id, host_id=one.host_id, size=one.length)
        for one in given  # type: ignore[attr-defined]
    )


def _source(path: str) -> str:
    if not path:
        raise InvalidArgument("a mount has neither host_path nor image")
    try:
        if not os.path.exists(path):
            os.makedirs(path, 0o755, exist_ok=True)
        return os.path.realpath(path, strict=True)
    except OSError as err:
        raise FailedPrecondition(f"mount source {path}: {err.strerror}") from err


def root_propagation(mounts: object) -> str:
    """Return what the container's root needs, so that what its mounts ask for can work."""
    wanted = {one.propagation for one in mounts}  # type: ignore[attr-defined]
    if pb.PROPAGATION_BIDIRECTIONAL in wanted:
        return "rshared"
    return "rslave" if pb.PROPAGATION_HOST_TO_CONTAINER in wanted else ""


def _check_shared(source: str, destination: str) -> None:
    """Refuse bidirectional propagation from a source whose mounts nobody else would see."""
    from sampan.linux.mounts import mountinfo

    found = None
    wanted = os.fsencode(source)
    for one in mountinfo():
        target = one.mount_point.rstrip(b"/")
        if (wanted == target or wanted.startswith(target + b"/")) and (
            found is None or len(one.mount_point) >= len(found.mount_point)
        ):
            found = one
    if found is not None and not any(tag.startswith(b"shared:") for tag in found.optional):
        raise FailedPrecondition(
            f"mount at {destination!r}: {source} is not on a shared mount, which bidirectional"
            " propagation needs; run `mount --make-shared` on it"
        )


def sorted_mounts(mounts: list[Mount]) -> tuple[Mount, ...]:
    """Return mounts with those above before those below them."""
    return tuple(
        sorted(mounts, key=lambda one: os.path.normpath(one.destination).strip("/").count("/"))
    )
