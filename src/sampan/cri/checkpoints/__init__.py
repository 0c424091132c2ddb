"""Checkpoints: a container, or a whole pod, as files from which it can go on.

    CheckpointContainer   freeze, dump (CRIU), what was written to the root, log ─▶ one tar archive
    CreateContainer       of an image that is such an archive: its processes go on at StartContainer
    CheckpointPod         all containers frozen, each dumped, all thawed ─▶ a folder
    RestorePod            a pod from such a folder; its containers go on when they are started

The archive is Kubernetes' own (KEP-2008), as other runtimes write and read it:

    config.dump      what it was: id, name, image       spec.dump    its config.json
    status.dump      ContainerStatus                    checkpoint/  CRIU's images
    rootfs-diff.tar  what it has written to its root    container.log

The folder of a pod holds pod.json, and <container name>.tar of each.
"""
