"""containerd.services.tasks.v1: what runs, made from container records."""
