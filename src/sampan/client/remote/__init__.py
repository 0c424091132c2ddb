"""The client of a daemon: the rooms' Protocols spoken over gRPC to its socket."""
