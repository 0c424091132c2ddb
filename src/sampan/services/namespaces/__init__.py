"""containerd.services.namespaces.v1: names under which everything else lives."""
