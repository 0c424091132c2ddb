"""containerd.services.diff.v1: layers applied to mounts, and made from them."""
