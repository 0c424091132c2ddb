"""Mounts: activations of `sampan.runtime.mounting` over gRPC."""
