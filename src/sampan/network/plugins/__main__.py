"""The built-in plugins as executables: `python -m sampan.network.plugins TYPE`, `sampan-cni-TYPE`.

The type is the first argument, or what follows `sampan-cni-` in the program's name, or the name
itself: a link named `bridge` in a folder of plugins is a bridge plugin.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping

from sampan.network.calls import Call
from sampan.network.errors import DECODING_FAILURE, INVALID_ENVIRONMENT, PluginError
from sampan.network.plugins import TYPES, serve
from sampan.network.results import version_of

__all__ = ["main"]


def main() -> int:
    """Serve the call in the environment and on stdin; return the exit status."""
    return _main(sys.argv, os.environ)


def _main(argv: list[str], env: Mapping[str, str]) -> int:
    version = "1.0.0"
    try:
        kind = _type(argv)
        command = env.get("CNI_COMMAND", "")
        if not command:
            raise PluginError(INVALID_ENVIRONMENT, "required env variables CNI_COMMAND missing")  # noqa: TRY301
        conf = _conf()
        version = version_of(conf, version)
        answer = serve(
            Call(
                command=command,
                conf={**conf, "type": kind},
                container_id=env.get("CNI_CONTAINERID", ""),
                netns=env.get("CNI_NETNS", ""),
                ifname=env.get("CNI_IFNAME", ""),
                args=env.get("CNI_ARGS", ""),
                path=env.get("CNI_PATH", ""),
            )
        )
    except PluginError as error:
        sys.stdout.write(json.dumps(error.json(version), indent=4))
        return 1
    if answer is not None:
        sys.stdout.write(json.dumps(answer, indent=4))
    return 0


def _type(argv: list[str]) -> str:
    name = argv[1] if len(argv) > 1 else os.path.basename(argv[0]).removeprefix("sampan-cni-")
    if name not in TYPES:
        raise PluginError(
            INVALID_ENVIRONMENT, f"no plugin {name!r}; there are {', '.join(sorted(TYPES))}"
        )
    return name


def _conf() -> dict[str, object]:
    data = sys.stdin.buffer.read()
    try:
        conf = json.loads(data) if data.strip() else {}
    except ValueError as error:
        raise PluginError(DECODING_FAILURE, f"stdin holds no JSON: {error}") from error
    if not isinstance(conf, dict):
        raise PluginError(DECODING_FAILURE, "stdin holds no JSON object")
    return conf


if __name__ == "__main__":
    raise SystemExit(main())
