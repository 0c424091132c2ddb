"""containerd.services.snapshots.v1: layered folders, by the snapshotter that the request names."""
