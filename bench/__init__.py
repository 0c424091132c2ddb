"""Measurements beside peers, in one run, interleaved: `make bench`.

    python -m bench [--quick] [--only NAME]... [--rounds N] [--output FILE]

__main__  options, the table, the JSON         measure   interleaving, medians, ratios
stage     folders, bundles, runtimes, image    daemons   sampand, containerd, registry: private
api       a plain gRPC client for both         warm      what runs inside a zygote's worker

rows/     one module a group: runtime (by command line and warm), shim, api_calls, pull, memory,
          inside (work in a container against the host)

Everything is made below one temporary folder in a mount namespace of our own, every daemon is
started here and ended by its pid, and names of containers and cgroups carry the run's tag.
"""
