from pathlib import Path

import pytest

from sampan.distribution.registry.hosts import (
    CAPABILITIES,
    Host,
    HostsOptions,
    hosts_for,
    is_loopback,
)
from sampan.errors import InvalidArgument


def write(root: Path, folder: str, text: str) -> HostsOptions:
    (root / folder).mkdir(parents=True)
    (root / folder / "hosts.toml").write_text(text)
    return HostsOptions(folders=(root,))


def test_without_folder() -> None:
    assert hosts_for("docker.io") == [Host("https", "registry-1.docker.io")]
    assert hosts_for("quay.io:443")[0].base == "https://quay.io:443/v2"
    assert hosts_for("localhost:5000")[0].scheme == "http"
    assert hosts_for("127.0.0.5")[0].scheme == "http"
    assert hosts_for("127.0.0.5", HostsOptions(plain_http=False))[0].scheme == "https"
    assert hosts_for("x.io", HostsOptions(plain_http=True))[0].scheme == "http"


ALL = """
server = "https://upstream.example"
capabilities = ["pull"]
[host."https://b.example"]
  capabilities = ["pull", "resolve"]
  ca = ["one.crt", "/two.crt"]
  client = [["c.cert", "c.key"], "both.pem"]
  skip_verify = true
  dial_timeout = "1m0.5s"
  [host."https://b.example".header]
    x-one = "1"
    x-two = ["a", "b"]
[host."http://a.example/mirror/v2"]
  override_path = true
[host."c.example/prefix"]
"""


def test_every_key(tmp_path: Path) -> None:
    b, a, c, server = hosts_for("r.example", write(tmp_path, "r.example", ALL))
    folder = tmp_path / "r.example"
    assert b == Host(
        "https",
        "b.example",
        capabilities=frozenset({"pull", "resolve"}),
        ca=(folder / "one.crt", Path("/two.crt")),
        client=((folder / "c.cert", folder / "c.key"), (folder / "both.pem", None)),
        skip_verify=True,
        dial_timeout_s=60.5,
        header={"x-one": ("1",), "x-two": ("a", "b")},
        namespace="r.example",
    )
    assert a.base == "http://a.example/mirror/v2"
    assert c.base == "https://c.example/prefix/v2"
    assert c.capabilities == CAPABILITIES
    assert (server.origin, server.capabilities) == (
        "https://upstream.example",
        frozenset({"pull"}),
    )


def test_folder_names(tmp_path: Path) -> None:
    options = write(tmp_path, "r.example_5000_", 'server = "http://first"')
    write(tmp_path, "_default", '[host."https://mirror"]')
    assert hosts_for("r.example:5000", options)[0].netloc == "first"
    mirror, own = hosts_for("other.example", options)
    assert (mirror.namespace, own.netloc, own.namespace) == ("other.example", "other.example", "")
    mirror, hub = hosts_for("docker.io", options)
    assert (mirror.namespace, hub.netloc) == ("docker.io", "registry-1.docker.io")


def test_dockers_certificates(tmp_path: Path) -> None:
    folder = tmp_path / "localhost:5000"
    folder.mkdir()
    options = HostsOptions(folders=(tmp_path,))
    assert hosts_for("localhost:5000", options)[0].scheme == "http"
    for name in ("ca.crt", "client.cert", "client.key"):
        (folder / name).touch()
    (host,) = hosts_for("localhost:5000", options)
    assert host.scheme == "https"
    assert host.ca == (folder / "ca.crt",)
    assert host.client == ((folder / "client.cert", folder / "client.key"),)
    (folder / "client.key").unlink()
    with pytest.raises(InvalidArgument, match=r"client\.key"):
        hosts_for("localhost:5000", options)


@pytest.mark.parametrize(
    "text",
    [
        "nonsense",
        "unknown = 1",
        'capabilities = ["fly"]',
        'server = "ftp://x"',
        'server = "https://user:pw@x"',
        'dial_timeout = "5"',
        'dial_timeout = "-5s"',
        'client = [["a", "b", "c"]]',
        '[host."https://x"]\nca = 5',
    ],
)
def test_mistakes_name_the_file(tmp_path: Path, text: str) -> None:
    options = write(tmp_path, "r.example", text)
    with pytest.raises(InvalidArgument, match=r"hosts\.toml") as caught:
        hosts_for("r.example", options)
    assert "pw" not in str(caught.value)


def test_loopback() -> None:
    assert all(map(is_loopback, ["localhost", "localhost:1", "127.1.2.3", "[::1]:5000"]))
    assert not any(map(is_loopback, ["localhost.evil.io", "127.0.0.1.evil.io", "10.0.0.1", ""]))
