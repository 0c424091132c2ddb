"""What a shim is told at its birth: a line of JSON, since the zygote speaks bytes."""

from __future__ import annotations

from sampan.errors import InvalidArgument
from sampan.model.runtime.document import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["Config"]

_VERSION = 1


class Config:
    """See the room's front door for what the fields mean."""

    __slots__ = (
        "bundle", "connection_fd", "id", "leave_after_s", "listen_fd", "log_fd", "namespace",
        "oci_root", "owner_fd", "publish", "rest_s", "socket", "systemd_cgroup",
    )  # fmt: skip

    def __init__(
        self,
        *,
        id: str,
        namespace: str,
        socket: str = "",
        bundle: str = "",
        publish: str = "",
        oci_root: str = "/run/sampan/oci",
        systemd_cgroup: bool = False,
        listen_fd: int = -1,
        connection_fd: int = -1,
        owner_fd: int = -1,
        log_fd: int = -1,
        rest_s: float = 2.0,
        leave_after_s: float = 0.0,
    ) -> None:
        self.id = id
        self.namespace = namespace
        self.socket = socket
        self.bundle = bundle
        self.publish = publish
        self.oci_root = oci_root
        self.systemd_cgroup = systemd_cgroup
        self.listen_fd = listen_fd
        self.connection_fd = connection_fd
        self.owner_fd = owner_fd
        self.log_fd = log_fd
        self.rest_s = rest_s
        self.leave_after_s = leave_after_s

    def to_json(self) -> bytes:
        """Return the payload for `worker`."""
        values: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        return dumps({"version": _VERSION, **values}).encode()

    @classmethod
    def from_json(cls, payload: bytes) -> Config:
        """Read a payload.

        Raises:
          InvalidArgument: it is not one of this version.
        """
        try:
            values = loads(payload)
            version = values.pop("version")
            made = cls(**values)
        except (ValueError, TypeError, KeyError, AttributeError) as err:
            raise InvalidArgument(f"shim: bad payload: {err}") from err
        if version != _VERSION:
            raise InvalidArgument(f"shim: payload of version {version}, not {_VERSION}")
        return made
