"""config.json of a pod's container: `build` puts together what each topic's module says.

    process namespaces users capabilities seccomp apparmor mounts devices cdi resources annotations

The request is policy and is obeyed; the image is content: of its config count entrypoint, command,
environment, folder, user, volumes and stop signal, and its files are only read through fds.
"""
