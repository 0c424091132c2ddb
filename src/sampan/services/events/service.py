"""The gRPC face of the exchange."""

from __future__ import annotations

from collections.abc import AsyncIterator

from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.events.v1 import events_pb2 as pb
from sampan.api.containerd.services.events.v1.events_grpc import EventsBase
from sampan.api.containerd.types.event_pb2 import Envelope as EnvelopeMessage
from sampan.events import Exchange
from sampan.rpc.grpc import streaming, unary
from sampan.services.convert import any_of
from sampan.services.events.convert import envelope_from, envelope_of

__all__ = ["EventsService"]


class EventsService(EventsBase):
    """Publish takes the request's namespace, Forward the envelope's; Subscribe sees all of them."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    @unary
    async def Publish(self, request: pb.PublishRequest) -> Empty:
        self._exchange.publish(request.topic, any_of(request.event))
        return Empty()

    @unary
    async def Forward(self, request: pb.ForwardRequest) -> Empty:
        self._exchange.forward(envelope_of(request.envelope))
        return Empty()

    @streaming
    async def Subscribe(self, request: pb.SubscribeRequest) -> AsyncIterator[EnvelopeMessage]:
        async with self._exchange.subscribe(*request.filters) as subscription:
            async for envelope in subscription:
                yield envelope_from(envelope)
