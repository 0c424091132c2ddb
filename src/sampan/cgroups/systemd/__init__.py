"""The systemd driver: a container's cgroup is a transient scope unit of systemd's, delegated to us.

    names     cgroupsPath `slice:prefix:name` -> unit, slice, folder
    wire      the D-Bus encoding
    bus       a connection, calls, and waiting for a signal
    properties   config.json's resources as unit properties
    manager   SystemdManager, a `Manager` whose folder systemd makes

Loaded only where it is asked for.
"""
