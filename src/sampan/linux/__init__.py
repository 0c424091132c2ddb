"""The kernel's own words: every system call that Python lacks, under the name its man page has.

This room is open: import its modules, there is nothing behind this page.

    process       clone3 with the semantics of fork, pidfds, execveat, prlimit, personality
    signals       every disposition and the mask back to their defaults
    prctl         dumpable, parent-death signal, subreaper, no_new_privs, securebits, name, slack
    scheduling    sched_setattr, I/O priority, CPU affinity, NUMA memory policy
    mounts        mount, the fd-based mount calls (open_tree, fsopen, ...), mountinfo, statfs
    namespaces    unshare, setns, the questions that nsfs answers, id maps
    paths         openat2 and what stands on it: open, mkdir and resolve inside a root; safe /proc
    fds           OwnedFd, closing all but a list, passing fds, sealed memfds, locks, long sockets
    capabilities  names and numbers; capget, capset, bounding and ambient sets
    keyring       joining and guarding a session keyring
    seccomp       loading a ready filter, its listener fd
    bpf           bpf(2); device programs of cgroup v2
    netlink       rtnetlink by raw messages, batched
    exe           running the interpreter from where nobody can write to it

Rules here: one function is one call, with the call's name; results are ints, bytes and plain
slotted objects; failures are OSError with the call's name in the message. A path is `str` or
`bytes` and an fd is an int which the caller owns, unless the docstring says otherwise; every fd
that we open is CLOEXEC. Constants are plain ints with the header's names: an IntFlag of thirty
members costs half a millisecond to build, and `oci` starts cold. For the same reason nothing here
imports `re`, `typing`, `enum`, `socket`, `signal`, `dataclasses`, `contextlib` or `logging`.

All calls release the interpreter lock, except clone3 (see `process`), whose child needs it.
"""
