"""Names of containers in hosts files."""

from pathlib import Path

import pytest

from sampan.errors import InvalidArgument
from sampan.network.names import Names


@pytest.fixture
def names(tmp_path: Path) -> Names:
    return Names(tmp_path / "hosts")


def hosts(tmp_path: Path, name: str) -> Path:
    path = tmp_path / name
    path.write_text("127.0.0.1\tlocalhost\n")
    return path


def test_everyone_on_a_network_knows_everyone(names: Names, tmp_path: Path) -> None:
    a, b, c = (hosts(tmp_path, name) for name in "abc")
    inode = a.stat().st_ino
    names.join("one", "id-a", ["a", "alias"], ["10.0.0.2", "fd00::2"], str(a))
    names.join("one", "id-b", ["b"], ["10.0.0.3"], str(b))
    names.join("two", "id-b", ["b"], ["10.9.0.3"], str(b))
    names.join("two", "id-c", ["c"], ["10.9.0.4"], str(c))
    assert "10.0.0.3\tb" in a.read_text()
    assert "10.0.0.2\ta alias" in b.read_text()
    assert "fd00::2\ta alias" in b.read_text()
    assert "10.9.0.4\tc" in b.read_text()
    assert "\ta" not in c.read_text()
    assert a.stat().st_ino == inode
    names.leave("id-b")
    assert a.read_text().startswith("127.0.0.1\tlocalhost\n")
    assert "\tb" not in a.read_text() + c.read_text()
    names.leave("id-a")
    names.leave("id-c")
    assert [p for p in (tmp_path / "hosts").iterdir() if p.name != ".lock"] == []


def test_what_people_wrote_stays(names: Names, tmp_path: Path) -> None:
    a = hosts(tmp_path, "a")
    names.join("one", "id-a", ["a"], ["10.0.0.2"], str(a))
    a.write_text(a.read_text() + "10.7.7.7\tmine\n")
    names.join("one", "id-b", ["b"], ["10.0.0.3"], "")
    text = a.read_text()
    assert "10.7.7.7\tmine" in text
    assert "10.0.0.3\tb" in text
    names.drop("one")
    assert a.read_text() == "127.0.0.1\tlocalhost\n10.7.7.7\tmine\n"


def test_a_hosts_file_that_is_gone_or_a_link_is_left_alone(names: Names, tmp_path: Path) -> None:
    target = hosts(tmp_path, "target")
    (tmp_path / "link").symlink_to(target)
    names.join("one", "id-a", ["a"], ["10.0.0.2"], str(tmp_path / "link"))
    names.join("one", "id-b", ["b"], ["10.0.0.3"], str(tmp_path / "nowhere"))
    assert target.read_text() == "127.0.0.1\tlocalhost\n"


@pytest.mark.parametrize(
    ("name", "ip"), [("a b", "10.0.0.2"), ("a\n1.1.1.1 evil", "10.0.0.2"), ("", "::1"), ("a", "x")]
)
def test_nothing_is_smuggled_into_a_hosts_file(
    name: str, ip: str, names: Names, tmp_path: Path
) -> None:
    a = hosts(tmp_path, "a")
    with pytest.raises(InvalidArgument):
        names.join("one", "id-a", [name], [ip], str(a))
    assert a.read_text() == "127.0.0.1\tlocalhost\n"
