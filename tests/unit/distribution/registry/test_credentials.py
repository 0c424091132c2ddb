import base64
import json
from pathlib import Path

import pytest

from sampan.distribution.registry.auth import Credentials
from sampan.distribution.registry.credentials import FileCredentials
from sampan.errors import FailedPrecondition, InvalidArgument

PAIR = base64.b64encode(b"ahab:wh:ale").decode()


def config(tmp_path: Path, **content: object) -> FileCredentials:
    folder = tmp_path / ".docker"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(content))
    path = f"{tmp_path}/bin:/usr/bin:/bin"
    return FileCredentials({"HOME": str(tmp_path), "PATH": path})


def helper(tmp_path: Path, name: str, script: str) -> None:
    (tmp_path / "bin").mkdir(exist_ok=True)
    program = tmp_path / "bin" / f"docker-credential-{name}"
    program.write_text(f"#!/bin/sh\nread server\n{script}\n")
    program.chmod(0o755)


async def test_entries(tmp_path: Path) -> None:
    source = config(
        tmp_path,
        auths={
            "https://index.docker.io/v1/": {"auth": PAIR},
            "https://old.example/v2/": {"username": "u", "password": "p"},
            "quay.io": {"identitytoken": "t"},
            "quay.io/team": {"auth": PAIR},
        },
    )
    assert await source.lookup("docker.io", "library/x") == Credentials("ahab", "wh:ale")
    assert await source.lookup("old.example") == Credentials("u", "p")
    assert await source.lookup("quay.io", "team/app") == Credentials("ahab", "wh:ale")
    assert await source.lookup("quay.io", "other/app") == Credentials("", "", "t")
    assert not await source.lookup("evil.example", "quay.io/team")


async def test_registry_auth_file_comes_alone(tmp_path: Path) -> None:
    config(tmp_path, auths={"a.io": {"auth": PAIR}})
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({"auths": {"b.io": {"auth": PAIR}}}))
    source = FileCredentials({"HOME": str(tmp_path), "REGISTRY_AUTH_FILE": str(file)})
    assert await source.lookup("b.io")
    assert not await source.lookup("a.io")


async def test_broken_files(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="not base64"):
        await config(tmp_path, auths={"a.io": {"auth": "!"}}).lookup("a.io")
    with pytest.raises(InvalidArgument, match=r"config\.json"):
        await config(tmp_path, auths=5).lookup("a.io")


@pytest.mark.parametrize("name", ["../x", "", "a/b", "a b", "-x"])
async def test_helper_names(tmp_path: Path, name: str) -> None:
    source = config(tmp_path, credHelpers={"a.io": name})
    if not name:
        assert not await source.lookup("a.io")
        return
    with pytest.raises(InvalidArgument, match="no name of a program"):
        await source.lookup("a.io")


async def test_helpers(tmp_path: Path) -> None:
    helper(tmp_path, "good", 'printf \'{"Username":"%s","Secret":"s"}\' "$server"')
    helper(tmp_path, "token", 'echo \'{"Username":"<token>","Secret":"s"}\'')
    helper(tmp_path, "none", "echo credentials not found in native keychain; exit 1")
    helper(tmp_path, "bad", "echo locked; exit 1")
    helper(tmp_path, "noise", "echo my secret")
    names = {f"{name}.io": name for name in ("good", "token", "none", "bad", "noise", "absent")}
    source = config(tmp_path, credHelpers=names, credsStore="good")
    assert await source.lookup("good.io") == Credentials("good.io", "s")
    assert await source.lookup("token.io") == Credentials(identity_token="s")  # noqa: S106
    assert not await source.lookup("none.io")
    assert (await source.lookup("else.io")).username == "else.io"
    assert (await source.lookup("docker.io")).username == "https://index.docker.io/v1/"
    for name in ("bad", "noise", "absent"):
        with pytest.raises(FailedPrecondition, match=f"docker-credential-{name}") as caught:
            await source.lookup(f"{name}.io")
        assert "secret" not in str(caught.value)
