"""containerd.services.leases.v1: promises to keep what a client works on."""
