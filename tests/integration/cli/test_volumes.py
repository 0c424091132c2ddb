"""Named volumes outlive containers; anonymous ones go with theirs."""

import json

from .conftest import Sampan


def test_a_named_volume_is_made_kept_and_refused_while_used(sampan: Sampan) -> None:
    sampan("run", "--rm", "-v", "data:/data", "host:", "sh", "-c", "echo x > /data/f").ok()
    assert sampan("run", "--rm", "-v", "data:/d:ro", "host:", "cat", "/d/f").ok() == "x\n"
    refused = sampan("run", "--rm", "-v", "data:/d:ro", "host:", "touch", "/d/g")
    assert refused.status == 1
    sampan("create", "--name", "user", "-v", "data:/data", "host:", "true").ok()
    assert "in use" in sampan("volume", "rm", "data").stderr
    assert sampan("volume", "ls", "-q", "-f", "dangling=true").ok() == ""
    assert sampan("ps", "-aq", "-f", "volume=data").ok() != ""
    assert sampan("rm", "user").status == 0
    assert sampan("volume", "rm", "data").ok() == "data\n"
    assert "no such volume" in sampan("volume", "inspect", "data").stderr


def test_anonymous_volumes_go_with_their_container(sampan: Sampan) -> None:
    sampan("run", "--rm", "-v", "/scratch", "host:", "touch", "/scratch/f").ok()
    assert sampan("volume", "ls", "-q").ok() == ""
    sampan("create", "--name", "one", "-v", "/scratch", "host:", "true").ok()
    sampan("create", "--name", "two", "-v", "/scratch", "host:", "true").ok()
    assert len(sampan("volume", "ls", "-q").ok().split()) == 2
    sampan("rm", "-v", "one").ok()
    sampan("rm", "two").ok()
    left = sampan("volume", "ls", "-q").ok().split()
    assert len(left) == 1
    assert sampan("volume", "prune", "-f").ok().split() == left


def test_volumes_have_labels_and_names(sampan: Sampan) -> None:
    assert sampan("volume", "create", "--label", "a=b", "one").ok() == "one\n"
    sampan("volume", "create", "two").ok()
    assert sampan("volume", "ls", "-q", "-f", "label=a=b").ok() == "one\n"
    found = json.loads(sampan("volume", "inspect", "one").ok())[0]
    assert (found["Name"], found["Labels"], found["UsedBy"]) == ("one", {"a": "b"}, [])
    assert sampan("volume", "ls", "--format", "table {{.Name}}").ok() == "VOLUME NAME\none\ntwo\n"
    for name in ("../x", "a/b", "", "-x"):
        assert sampan("run", "--rm", "-v", f"{name}:/x", "host:", "true").status == 125
    assert sampan("volume", "rm", "../../x").status == 1


def test_volumes_from_another_container(sampan: Sampan) -> None:
    sampan("create", "--name", "one", "-v", "data:/data", "host:", "true").ok()
    script = "echo shared > /data/f"
    sampan("run", "--rm", "--volumes-from", "one", "host:", "sh", "-c", script).ok()
    cat = sampan("run", "--rm", "--volumes-from", "one:ro", "host:", "cat", "/data/f")
    assert cat.ok() == "shared\n"
    assert sampan("run", "--rm", "--volumes-from", "nobody", "host:", "true").status == 125
