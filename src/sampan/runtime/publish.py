"""Where shims publish: containerd.services.events.ttrpc.v1.Events, into the exchange."""

from __future__ import annotations

import os
from collections.abc import Mapping

from sampan.errors import InvalidArgument
from sampan.events import Envelope, Exchange
from sampan.model.opaque import Opaque
from sampan.rpc.aio import Server
from sampan.rpc.messages.events import ForwardRequest
from sampan.rpc.messages.wellknown import Empty

__all__ = ["publishing"]

_SERVICE = "containerd.services.events.ttrpc.v1.Events"


async def publishing(exchange: Exchange, path: str) -> Server:
    """Return a server listening on the socket `path`; the caller closes it.

    An empty Any is forwarded as it is: containerd's clients test for that.
    """

    async def forward(request: ForwardRequest, metadata: Mapping[str, str]) -> Empty:
        del metadata
        envelope = request.envelope
        if envelope is None:
            raise InvalidArgument("forward: the request holds no envelope")
        event = envelope.event
        exchange.forward(
            Envelope(
                envelope.timestamp.ns if envelope.timestamp else 0,
                envelope.namespace,
                envelope.topic,
                Opaque(event.type_url, event.value) if event else Opaque(),
            )
        )
        return Empty()

    server = Server({_SERVICE: {"Forward": (ForwardRequest, forward)}})
    await server.listen(path)
    # Forwarding needs write permission, whatever the umask was.
    os.chmod(path, 0o660)
    return server
