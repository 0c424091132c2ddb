"""The gRPC face of image records."""

from __future__ import annotations

from google.protobuf.empty_pb2 import Empty

from sampan.api.containerd.services.images.v1 import images_pb2 as pb
from sampan.api.containerd.services.images.v1.images_grpc import ImagesBase
from sampan.metadata import Image, Metadata
from sampan.model import digest as digests
from sampan.model.descriptor import Descriptor
from sampan.rpc.grpc import unary
from sampan.services.convert import descriptor_from, descriptor_of, mask_of, timestamp

__all__ = ["ImagesService"]


class ImagesService(ImagesBase):
    """Image records; `source_date_epoch` is accepted and has no effect on records."""

    def __init__(self, metadata: Metadata) -> None:
        self._images = metadata.images

    @unary
    async def Get(self, request: pb.GetImageRequest) -> pb.GetImageResponse:
        return pb.GetImageResponse(image=_message(await self._images.get(request.name)))

    @unary
    async def List(self, request: pb.ListImagesRequest) -> pb.ListImagesResponse:
        found = await self._images.list(*request.filters)
        return pb.ListImagesResponse(images=[_message(one) for one in found])

    @unary
    async def Create(self, request: pb.CreateImageRequest) -> pb.CreateImageResponse:
        made = await self._images.create(_value(request.image))
        return pb.CreateImageResponse(image=_message(made))

    @unary
    async def Update(self, request: pb.UpdateImageRequest) -> pb.UpdateImageResponse:
        mask = mask_of(request)
        target = None
        if mask and not request.image.target.digest:
            # `ctr image label` sends a name and labels alone.
            target = (await self._images.get(request.image.name)).target
        now = await self._images.update(_value(request.image, target), mask)
        return pb.UpdateImageResponse(image=_message(now))

    @unary
    async def Delete(self, request: pb.DeleteImageRequest) -> Empty:
        target = digests.parse(request.target.digest) if request.HasField("target") else None
        await self._images.delete(request.name, target=target, sync=request.sync)
        return Empty()


def _message(value: Image) -> pb.Image:
    return pb.Image(
        name=value.name,
        labels=dict(value.labels),
        target=descriptor_from(value.target),
        created_at=timestamp(value.created_at),
        updated_at=timestamp(value.updated_at),
    )


def _value(message: pb.Image, target: Descriptor | None = None) -> Image:
    return Image(
        name=message.name,
        target=target or descriptor_of(message.target),
        labels=dict(message.labels),
    )
