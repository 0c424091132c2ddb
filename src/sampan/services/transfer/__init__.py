"""Transfers: one call that moves images between the two places that its Any's name.

    OCIRegistry       ─▶ ImageStore            pull, and unpack as the store asks
    ImageStore        ─▶ OCIRegistry           push
    ImageImportStream ─▶ ImageStore            import, names by prefix or digest
    ImageStore        ─▶ ImageExportStream     export
    ImageStore        ─▶ ImageStore            tag
    ImageImportStream ─▶ ImageExportStream     echo: the bytes as they are

    service      the call: places, progress, and which operation it is
    places       Any's to messages, platforms, streams to files
    operations   the six of the table, over `distribution`
    naming       which records an ImageStore makes of a descriptor
    registries   a registry client as the request wants it: credentials by stream, headers, log
    progress     events in containerd's words, without drowning the client

Source: containerd api types/transfer; behaviour of containerd 2.4.
"""
