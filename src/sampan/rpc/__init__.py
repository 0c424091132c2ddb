"""Remote calls: a protobuf codec, ttrpc on both kinds of loop, and the table of status codes.

ttrpc is the protocol between containerd's daemon and its shims. One connection carries many
streams, each opened by a request of the client:

    client                                            server
      │ ── REQUEST  stream 1, service, method, payload ──▶ │
      │ ── REQUEST  stream 3 …                          ─▶ │
      │ ◀─ RESPONSE stream 3, status, payload ──────────── │     in any order
      │ ◀─ RESPONSE stream 1 ───────────────────────────── │
      │ ── REQUEST  stream 5, flag REMOTE_OPEN  ─────────▶ │     a streaming call:
      │ ◀▶ DATA     stream 5 … flag REMOTE_CLOSED ──────── │     then frames of DATA either way,
      │ ◀─ RESPONSE stream 5, status ───────────────────── │     ended by the server's status

Which module for whom (all are open to other rooms, as `model` and `linux` are):

    wire       the codec: slotted message classes declared as tables of fields; no I/O
    messages   what containerd and its shims say: task, sandbox, events, types, runc, cgroups, …
    frames     ttrpc's frames, and the numbering of streams; no I/O
    loop       a small epoll loop with coroutines, timers and signals, for programs of one thread
    server     a ttrpc server on that loop (the shim)
    link       a ttrpc client on that loop (the shim, towards the daemon)
    client     a blocking ttrpc client (tests, the shim's command line, thin command lines)
    aio        client and server on asyncio (the daemon's side); never imported by a shim
    status     SampanError <-> gRPC code <-> what a peer's text tells us

Cost. `wire`, `messages`, `frames`, `loop`, `server`, `link` load neither asyncio nor protobuf; the
zygote preloads them before `gc.freeze()`. Deadlines travel as nanoseconds from now
(`timeout_nano`), metadata as pairs of strings; a message is at most 4 MiB on the wire, either way.
"""

from __future__ import annotations

__all__ = ["MESSAGE_MAX_BYTES"]

MESSAGE_MAX_BYTES = 4 << 20
"""Longest data of one frame that either side accepts. Source: ttrpc PROTOCOL.md."""
