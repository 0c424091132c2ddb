"""A connection to systemd: through the message bus, or to root's private socket without one.

    with Bus.connect(user=False) as bus:
        job = bus.call("StartTransientUnit", "ssa(sv)a(sa(sv))", [name, "replace", properties, []])

One thread, blocking, with a deadline for each call. Source: D-Bus specification, "Authentication
Protocol"; org.freedesktop.systemd1(5).
"""

from __future__ import annotations

import _socket
import os
import select
import time

from sampan.cgroups.systemd import wire
from sampan.errors import DeadlineExceeded, FailedPrecondition, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

__all__ = ["MANAGER", "UNIT_EXISTS", "Bus", "BusError"]

MANAGER = "org.freedesktop.systemd1.Manager"
UNIT_EXISTS = "org.freedesktop.systemd1.UnitExists"
_NAME = "org.freedesktop.systemd1"
_PATH = "/org/freedesktop/systemd1"
_DBUS = "org.freedesktop.DBus"
_SYSTEM = "/run/dbus/system_bus_socket"
_PRIVATE = "/run/systemd/private"
_TIMEOUT_S = 30.0
_SUCCESS = ("done", "skipped")


class BusError(FailedPrecondition):
    """systemd, or the bus, answered with an error."""

    def __init__(self, text: str, name: str = "") -> None:
        super().__init__(text)
        self.name = name
        """As `org.freedesktop.systemd1.NoSuchUnit`."""


class Bus:
    """Closes its socket at the end of its context."""

    __slots__ = ("_queue", "_serial", "_sock", "_through_bus", "where")

    def __init__(self, sock: _socket.socket, where: str, *, through_bus: bool) -> None:
        self._sock = sock
        self._serial = 0
        self._queue: list[wire.Message] = []
        """Signals that came before they were waited for."""
        self._through_bus = through_bus
        self.where = where

    @classmethod
    def connect(cls, *, user: bool) -> Bus:
        """Connect to the system's manager, or to that of the calling user.

        Raises:
          Unavailable: nobody listens there.
        """
        tried = []
        for path, through_bus in _addresses(user):
            sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
            try:
                sock.connect(path)
            except OSError as err:
                sock.close()
                tried.append(f"{path.replace(chr(0), '@')}: {err.strerror}")
                continue
            bus = cls(sock, path, through_bus=through_bus)
            try:
                bus._authenticate()
            except BaseException:
                bus.close()
                raise
            return bus
        whose = "the user's systemd" if user else "systemd"
        raise Unavailable(
            f"no connection to {whose} for the cgroup: {'; '.join(tried) or 'no bus'}"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._sock.close()

    def call(
        self,
        member: str,
        signature: str = "",
        body: list[Any] | None = None,
        *,
        path: str = _PATH,
        interface: str = MANAGER,
        destination: str = _NAME,
    ) -> list[Any]:
        """Call a method and return the values it answers with.

        Raises:
          BusError: it answered with an error. DeadlineExceeded: it did not answer.
        """
        message = wire.Message(wire.METHOD_CALL)
        message.path, message.interface, message.member = path, interface, member
        if self._through_bus:
            message.destination = destination
        message.signature, message.body = signature, body or []
        serial = self._send(message)
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            answer = self._receive(deadline, member)
            if answer.reply_to == serial and answer.kind == wire.METHOD_RETURN:
                return answer.body
            if answer.reply_to == serial and answer.kind == wire.ERROR:
                said = answer.body[0] if answer.body else answer.error
                raise BusError(f"systemd refused {member}: {said}", answer.error)
            if answer.kind == wire.SIGNAL:
                self._queue.append(answer)

    def subscribe(self) -> None:
        """Ask for systemd's signals, before the call whose job is to be waited for."""
        if self._through_bus:
            rule = f"type='signal',interface='{MANAGER}',member='JobRemoved'"
            bus = {"path": "/org/freedesktop/DBus", "interface": _DBUS, "destination": _DBUS}
            self.call("AddMatch", "s", [rule], **bus)
        self.call("Subscribe")

    def wait_job(self, job: str, what: str) -> None:
        """Wait until a job has ended.

        Raises:
          BusError: it failed. DeadlineExceeded.
        """
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            message = self._queue.pop(0) if self._queue else self._receive(deadline, what)
            if message.member != "JobRemoved" or message.body[1] != job:
                continue
            result = message.body[3]
            if result in _SUCCESS:
                return
            raise BusError(f"systemd could not {what}: the job ended as {result}")

    def property(self, name: str, *, path: str = _PATH, interface: str = MANAGER) -> Any:
        """Return a property of an object."""
        interfaces = "org.freedesktop.DBus.Properties"
        answer = self.call("Get", "ss", [interface, name], path=path, interface=interfaces)
        return answer[0][1]

    def _send(self, message: wire.Message) -> int:
        self._serial += 1
        message.serial = self._serial
        self._sock.sendall(message.to_bytes())
        return self._serial

    def _receive(self, deadline: float, what: str) -> wire.Message:
        start = self._read(16, deadline, what)
        return wire.decode(start + self._read(wire.size(start) - 16, deadline, what))

    def _read(self, count: int, deadline: float, what: str) -> bytes:
        data = b""
        poll = select.poll()
        poll.register(self._sock.fileno(), select.POLLIN)
        while len(data) < count:
            left = deadline - time.monotonic()
            if left <= 0 or not poll.poll(left * 1000):
                raise DeadlineExceeded(f"systemd did not answer {what} in {_TIMEOUT_S:g} s")
            chunk = self._sock.recv(count - len(data))
            if not chunk:
                raise Unavailable(f"systemd hung up during {what}: {self.where}")
            data += chunk
        return data

    def _authenticate(self) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        self._sock.sendall(
            b"\0AUTH EXTERNAL " + str(_outer_uid()).encode().hex().encode() + b"\r\n"
        )
        line = b""
        while not line.endswith(b"\r\n"):
            line += self._read(1, deadline, "authentication")
        if not line.startswith(b"OK "):
            said = line.decode(errors="replace").strip()
            raise Unavailable(f"{self.where} refused our authentication: {said}")
        self._sock.sendall(b"BEGIN\r\n")
        if self._through_bus:
            self.call("Hello", path="/org/freedesktop/DBus", interface=_DBUS, destination=_DBUS)


def _addresses(user: bool) -> list[tuple[str, bool]]:
    """Return (socket, whether a bus is between) in the order to try them."""
    variable = "DBUS_SESSION_BUS_ADDRESS" if user else "DBUS_SYSTEM_BUS_ADDRESS"
    found = [(path, True) for path in _parse_address(os.environ.get(variable, ""))]
    if not user:
        return [*found, (_SYSTEM, True), (_PRIVATE, False)]
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{_outer_uid()}"
    return [*found, (f"{runtime}/bus", True), (f"{runtime}/systemd/private", False)]


def _parse_address(text: str) -> list[str]:
    """Return the socket names of a bus address list. Source: D-Bus specification, "Addresses"."""
    found = []
    for address in text.split(";"):
        transport, _, pairs = address.partition(":")
        if transport != "unix":
            continue
        values = dict(pair.partition("=")[::2] for pair in pairs.split(","))
        if "path" in values:
            found.append(_unquote(values["path"]))
        elif "abstract" in values:
            found.append("\0" + _unquote(values["abstract"]))
    return found


def _unquote(text: str) -> str:
    first, *rest = text.split("%")
    raw = first.encode() + b"".join(bytes([int(part[:2], 16)]) + part[2:].encode() for part in rest)
    return raw.decode()


def _outer_uid() -> int:
    """Return our uid as the bus sees it: from outside of a user namespace."""
    uid = os.geteuid()
    try:
        with open("/proc/self/uid_map", "rb") as file:
            lines = file.read().splitlines()
    except OSError:
        return uid
    for line in lines:
        inside, outside, count = map(int, line.split())
        if inside <= uid < inside + count:
            return outside + uid - inside
    return uid
