"""What a pull shows: bars on a terminal, plain lines in a pipe."""

from pathlib import Path

from sampan.testing import requires
from sampan.testing.registry import DockerRegistry

from .conftest import Sampan
from .test_terminal import Screen


@requires("docker-registry")
def test_bars_on_a_terminal_and_lines_elsewhere(sampan: Sampan, small: str, tmp_path: Path) -> None:
    with DockerRegistry(tmp_path / "registry") as registry:
        name = f"{registry.host}/t/small:1"
        sampan("tag", small, name).ok()
        sampan("push", name).ok()
        sampan("rmi", "-f", small, name).ok()
        with Screen(sampan, "pull", name) as screen:
            seen = screen.until(name.encode() + b"\r\n")
            assert screen.program.wait(20) == 0
        assert b"\x1b[" in seen, "a bar is redrawn in place"
        assert "\u2501".encode() in seen, "it is drawn with box characters"
        assert b"unpacked" in seen
        sampan("rmi", "-f", name).ok()
        done = sampan("pull", name)
        assert "\x1b" not in done.stderr + done.stdout
        assert "download complete" in done.stderr
        assert done.stderr.count("unpacked\n") == 1
        assert done.ok().splitlines()[-1] == name
        sampan("rmi", "-f", name).ok()
        assert sampan("run", "--rm", "--quiet", name).stderr == ""
