"""`sampan login` against a registry with a password: checked first, kept privately, forgotten."""

import json
import os
from pathlib import Path

from sampan.testing import requires
from sampan.testing.registry import DockerRegistry

from .conftest import Sampan


@requires("docker-registry")
def test_login_is_checked_kept_and_forgotten(sampan: Sampan, small: str, tmp_path: Path) -> None:
    config = tmp_path / "docker"
    sampan.environ["DOCKER_CONFIG"] = str(config)
    with DockerRegistry(tmp_path / "registry", password=True) as registry:
        host = registry.host
        sampan("tag", small, f"{host}/t/small:1").ok()
        assert sampan("push", f"{host}/t/small:1").status == 1
        wrong = sampan("login", "-u", registry.username, "--password-stdin", host, stdin=b"wrong\n")
        assert wrong.status == 1, wrong
        assert not config.exists()
        secret = registry.password.encode()
        flags = ("-u", registry.username, "--password-stdin", host)
        assert "Login Succeeded" in sampan("login", *flags, stdin=secret + b"\n").ok()
        file = config / "config.json"
        assert os.stat(file).st_mode & 0o777 == 0o600
        assert list(json.loads(file.read_text())["auths"]) == [host]
        sampan("push", f"{host}/t/small:1").ok()
        sampan("logout", host).ok()
        assert json.loads(file.read_text())["auths"] == {}
        assert sampan("push", f"{host}/t/small:1").status == 1
        assert "Not logged in" in sampan("logout", host).ok()
    gone = sampan("login", *flags, stdin=secret)
    assert (gone.status, gone.stderr.count("\n")) == (1, 1)
