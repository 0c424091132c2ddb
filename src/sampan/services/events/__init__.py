"""containerd.services.events.v1: the exchange for clients and shims, and its messages."""
