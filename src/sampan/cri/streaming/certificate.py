"""A self-signed certificate for a server that was told to speak TLS, and given no certificate.

It is made at each start, lives in memory, and proves nothing but that nobody reads along. ECDSA on
P-256 is written out here, in the plainest form: it signs once, its own certificate, and then the
key belongs to OpenSSL. Naive arithmetic would tell a neighbour who can time it many times over;
there is nothing to time twice.

Source: SEC 1, FIPS 186-5, RFC 5280, RFC 5480, RFC 5915.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import secrets
import socket
import ssl
from datetime import UTC, datetime, timedelta
from typing import Final

from sampan.linux.fds import OwnedFd, memfd_create, write_all

__all__ = ["load_self_signed", "self_signed"]

_P: Final = 2**256 - 2**224 + 2**192 + 2**96 - 1
_N: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_G: Final = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)
_ECDSA_SHA256, _EC_KEY, _P256 = "1.2.840.10045.4.3.2", "1.2.840.10045.2.1", "1.2.840.10045.3.1.7"
_COMMON_NAME, _ALTERNATIVE_NAMES, _BASIC = "2.5.4.3", "2.5.29.17", "2.5.29.19"
_INTEGER, _BITS, _OCTETS, _OID, _UTF8, _TIME = 0x02, 0x03, 0x04, 0x06, 0x0C, 0x18
_SEQUENCE, _SET = 0x30, 0x31
_VALID: Final = timedelta(days=3650)

_Point = tuple[int, int] | None


def load_self_signed(context: ssl.SSLContext, address: str) -> None:
    """Give `context` a new certificate for `address`, this host's name, and the loopback."""
    pem = self_signed([address, socket.gethostname(), "localhost", "127.0.0.1", "::1"])
    # OpenSSL's interface in Python wants a path: this one leads to memory, and to no disk.
    with OwnedFd(memfd_create("certificate", sealable=False)) as fd:
        write_all(fd.fd, pem)
        context.load_cert_chain(f"/proc/self/fd/{fd.fd}")


def self_signed(names: list[str]) -> bytes:
    """Return certificate and private key as PEM, for host names and addresses."""
    key = secrets.randbelow(_N - 1) + 1
    point = _times(key, _G)
    assert point is not None  # noqa: S101 - key is less than the order
    public = b"\x04" + point[0].to_bytes(32, "big") + point[1].to_bytes(32, "big")
    now = datetime.now(UTC).replace(microsecond=0)
    algorithm = _der(_SEQUENCE, _oid(_ECDSA_SHA256))
    name = _der(_UTF8, b"sampan streaming")
    subject = _der(_SEQUENCE, _der(_SET, _der(_SEQUENCE, _oid(_COMMON_NAME), name)))
    certified = _der(
        _SEQUENCE,
        _der(0xA0, _integer(2)),
        _integer(secrets.randbits(127) | 1),
        algorithm,
        subject,
        _der(_SEQUENCE, _time(now - timedelta(hours=1)), _time(now + _VALID)),
        subject,
        _der(_SEQUENCE, _der(_SEQUENCE, _oid(_EC_KEY), _oid(_P256)), _bits(public)),
        _der(0xA3, _der(_SEQUENCE, _is_authority(), _alternative_names(names))),
    )
    certificate = _der(_SEQUENCE, certified, algorithm, _bits(_sign(key, certified)))
    private = _der(
        _SEQUENCE,
        _integer(1),
        _der(_OCTETS, key.to_bytes(32, "big")),
        _der(0xA0, _oid(_P256)),
        _der(0xA1, _bits(public)),
    )
    return _pem("CERTIFICATE", certificate) + _pem("EC PRIVATE KEY", private)


def _is_authority() -> bytes:
    # Clients that pin this very certificate need it to be one.
    body = _der(_SEQUENCE, _der(0x01, b"\xff"))
    return _der(_SEQUENCE, _oid(_BASIC), _der(0x01, b"\xff"), _der(_OCTETS, body))


def _alternative_names(names: list[str]) -> bytes:
    body = b""
    for name in dict.fromkeys(names):
        try:
            body += _der(0x87, ipaddress.ip_address(name).packed)
        except ValueError:
            if name.isascii() and name:
                body += _der(0x82, name.encode())
    return _der(_SEQUENCE, _oid(_ALTERNATIVE_NAMES), _der(_OCTETS, _der(_SEQUENCE, body)))


# --- P-256 ---------------------------------------------------------------------------------


def _add(a: _Point, b: _Point) -> _Point:
    if a is None or b is None:
        return a or b
    if a[0] == b[0]:
        if (a[1] + b[1]) % _P == 0:
            return None
        slope = 3 * (a[0] * a[0] - 1) * pow(2 * a[1], -1, _P)  # the curve's a is -3
    else:
        slope = (b[1] - a[1]) * pow(b[0] - a[0], -1, _P)
    x = (slope * slope - a[0] - b[0]) % _P
    return x, (slope * (a[0] - x) - a[1]) % _P


def _times(factor: int, point: _Point) -> _Point:
    total: _Point = None
    while factor:
        if factor & 1:
            total = _add(total, point)
        point = _add(point, point)
        factor >>= 1
    return total


def _sign(key: int, message: bytes) -> bytes:
    hashed = int.from_bytes(hashlib.sha256(message).digest(), "big")
    while True:
        once = secrets.randbelow(_N - 1) + 1
        point = _times(once, _G)
        assert point is not None  # noqa: S101 - `once` is less than the order
        r = point[0] % _N
        s = pow(once, -1, _N) * (hashed + r * key) % _N
        if r and s:
            return _der(_SEQUENCE, _integer(r), _integer(s))


# --- DER -----------------------------------------------------------------------------------


def _der(tag: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    size = len(body)
    if size < 128:
        return bytes((tag, size)) + body
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + body


def _integer(value: int) -> bytes:
    return _der(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _bits(data: bytes) -> bytes:
    return _der(_BITS, b"\0" + data)


def _oid(dotted: str) -> bytes:
    first, second, *rest = map(int, dotted.split("."))
    body = bytearray((40 * first + second,))
    for number in rest:
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(number & 0x7F | 0x80)
        body += bytes(reversed(groups))
    return _der(_OID, bytes(body))


def _time(when: datetime) -> bytes:
    # RFC 5280 wants the two-digit form for years before 2050.
    if when.year < 2050:
        return _der(0x17, when.strftime("%y%m%d%H%M%SZ").encode())
    return _der(_TIME, when.strftime("%Y%m%d%H%M%SZ").encode())


def _pem(kind: str, body: bytes) -> bytes:
    text = base64.encodebytes(body).decode().replace("\n", "")
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----\n".encode()
