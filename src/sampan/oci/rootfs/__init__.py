"""The container's file tree: planned by the parent, built by the child through fds.

    options   the words of a mount's options, sorted
    plan      root and mounts of config.json, checked and encoded
    build     the child's part in order: propagation, root, mounts, devices; pivot; masks

No path inside the root is used twice as a string: it is resolved to an fd (openat2 with
RESOLVE_IN_ROOT), and mounted on, made in or checked through that fd.
"""
