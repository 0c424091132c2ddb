"""Images as kubelet sees them: one for each config, whatever names it has."""
