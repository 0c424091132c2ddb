"""sampand: the engine behind sockets.

    main      arguments, settings, signals, and the order of start and stop
    servers   gRPC on the address, ttrpc on `<address>.ttrpc`: folders, modes, peers
    notify    systemd's readiness protocol

Stopping the daemon stops no container: shims live on, and the next daemon finds them.
"""
