"""The gRPC face of transfers: it finds the two places, and the operation between them."""

from __future__ import annotations

import asyncio

from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.transfer.v1 import transfer_pb2 as pb
from sampan.api.containerd.services.transfer.v1.transfer_grpc import TransferBase
from sampan.api.containerd.types.transfer.imagestore_pb2 import ImageStore
from sampan.api.containerd.types.transfer.importexport_pb2 import (
    ImageExportStream,
    ImageImportStream,
)
from sampan.api.containerd.types.transfer.registry_pb2 import OCIRegistry
from sampan.distribution.transfer.download import first_error
from sampan.errors import Unimplemented
from sampan.rpc.grpc import unary
from sampan.services.streaming.registry import Streams
from sampan.services.transfer.operations import Operations
from sampan.services.transfer.places import Place, place_of
from sampan.services.transfer.progress import Reporter

__all__ = ["TransferService"]


class TransferService(TransferBase):
    """The call returns when everything is done, and the client's streams are closed by then."""

    def __init__(self, operations: Operations, streams: Streams) -> None:
        self._operations = operations
        self._streams = streams

    @unary
    async def Transfer(self, request: pb.TransferRequest) -> Empty:
        name = request.options.progress_stream
        stream = self._streams.get(name) if name else None
        report = Reporter(stream)
        try:
            source, target = place_of(request.source), place_of(request.destination)
            async with asyncio.TaskGroup() as group:
                group.create_task(report.pump())
                try:
                    await self._move(source, target, report)
                finally:
                    report.finish()
        except BaseExceptionGroup as several:
            raise first_error(several) from None
        finally:
            if stream is not None:
                stream.close()
        return Empty()

    async def _move(self, source: Place, target: Place, report: Reporter) -> None:
        do = self._operations
        match source, target:
            case OCIRegistry(), ImageStore():
                await do.pull(source, target, report)
            case ImageStore(), OCIRegistry():
                await do.push(source, target, report)
            case ImageStore(), ImageStore():
                await do.tag(source, target, report)
            case ImageStore(), ImageExportStream():
                await do.export(source, target, report)
            case ImageImportStream(), ImageStore():
                await do.import_(source, target, report)
            case ImageImportStream(), ImageExportStream():
                await do.echo(source, target, report)
            case _:
                names = (one.DESCRIPTOR.full_name for one in (source, target))
                raise Unimplemented("method Transfer not implemented for {} to {}".format(*names))
