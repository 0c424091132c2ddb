"""containerd.services.content.v1: bytes by digest, and ingests on their way to become some."""
