"""Storage, the first plank: bytes by digest, folders by snapshot, and the way between them.

    content/     blobs that are what their digest says, and ingests that may be cut and resumed
    snapshots/   folders stacked on folders: prepare a key, write below its mounts, commit a name
    diff/        a layer's tar to a folder (apply), and two folders to a layer's tar (compare)
    tar/         the format alone: bytes in, entries out, no I/O
    unpack       an image's layers to one chain of snapshots, side by side
    worker       the confined child in which hostile archives are parsed and applied

    content.writer(ref) ──► blob sha256:… ──► unpack ──► snapshots "sha256:<chain id>"
                                                 │ each layer in a worker of its own:
                                                 └ decompress → hash → tar → apply below one dirfd

Storage never hears of namespaces, images or leases: `metadata` wraps these Protocols in namespaced
views of the same shape, and decides what lives. What is here must hold by itself:

- A blob is visible only when its size and digest are verified and its bytes are on disk.
- Several processes share one root. A ref or folder in progress is held by a lock that dies with
  its process; `cleanup` touches only what nobody holds.
- A process killed between any two steps leaves a store that opens. `concurrency.trace` marks them.
- What a layer says is content, never policy: it is parsed in a worker that can reach its target
  folder and nothing else, under caps on every count and size (`tar.Caps`).

This package loads nothing by itself: `worker` passes through it.
"""
