"""Values that every room shares: no I/O, no state. An open package: import its modules.

`model.runtime` (config.json) and `model.mounts` are loaded by `oci`, which starts cold: they use
the standard library alone. The other modules may use msgspec.
"""
