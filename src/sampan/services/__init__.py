"""The gRPC faces of the engine: containerd's API, one folder a service.

A service converts and decides nothing: `service` receives a message, calls a room below, answers;
`convert` holds what is more than a line of translation between messages and values. Namespace,
lease and errors are bound by `sampan.rpc.grpc`.

    content containers images leases namespaces snapshots   over metadata and its views
    tasks                                                   over runtime
    diff transfer                                           over storage and distribution
    events introspection version                            over the exchange and the engine's graph

Messages and numbers: containerd api, v1 packages. Where containerd's behaviour is no accident
(an error class, a default), the method says so.
"""
