"""containerd.services.images.v1: names for what content holds."""
