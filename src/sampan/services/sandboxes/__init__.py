"""containerd.services.sandbox.v1: records of what holds pods together."""
