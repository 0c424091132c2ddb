"""containerd.services.containers.v1: records of what is to run."""
