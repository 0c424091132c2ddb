from __future__ import annotations

import pytest

from sampan.model.runtime.resources import Memory, Resources
from sampan.model.runtime.spec import Spec, SpecError, parse_spec


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ('{"linux": {"resources": {"pids": {"limit": "4"}}}}', "$.linux.resources.pids.limit"),
        ('{"process": {"args": ["a", 1]}}', "$.process.args[1]"),
        ('{"process": {"user": {"uid": 4294967296}}}', "$.process.user.uid"),
        ('{"process": {"user": {"uid": -1}}}', "$.process.user.uid"),
        ('{"process": {"terminal": 1}}', "$.process.terminal"),
        ('{"hostname": "a\\u0000b"}', "$.hostname"),
        ('{"root": {}}', "$.root.path"),
        ("[]", "$"),
    ],
)
def test_errors_name_the_path(text: str, path: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec(text)
    assert str(caught.value).endswith(f"`{path}`")


def test_unknown_fields_and_null_are_ignored() -> None:
    assert parse_spec('{"future": 1, "process": null}') == Spec()


def test_round_trip() -> None:
    resources = Resources(memory=Memory(disable_oom_killer=True, limit=0))
    encoded = resources.to_json()
    assert encoded == {"memory": {"disableOOMKiller": True, "limit": 0}}
    assert Resources.from_json(encoded) == resources


def test_broken_json_is_a_spec_error() -> None:
    with pytest.raises(SpecError):
        parse_spec("{" * 100_000)
