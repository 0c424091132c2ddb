"""containerd.services.introspection.v1: which plugins there are, and who we are."""
