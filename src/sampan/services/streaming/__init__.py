"""Streams: channels that a client opens beforehand and then names in another request.

    client: Stream(StreamInit id="progress-1") ─▶ Empty: it is registered
    client: Transfer(..., progress_stream="progress-1")
    server: Progress, Progress, ... over the stream, and its end when the transfer is over

`registry` keeps them by namespace and id, `flow` carries bytes over one with windows, `service` is
the gRPC face.
"""
