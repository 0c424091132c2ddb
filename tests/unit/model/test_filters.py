from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from sampan.errors import InvalidArgument
from sampan.model import filters


@dataclass
class Thing:
    name: str = "alpine"
    labels: dict[str, str] = field(default_factory=dict)

    def filter_field(self, path: Sequence[str]) -> tuple[str, bool]:
        return filters.field_of(
            path, {"name": self.name, "target.digest": "sha256:ab"}, self.labels
        )


THING = Thing("alpine", {"a.b/c": "x y", "empty": "", "plain": "v", "q": 'say "hi"'})


@pytest.mark.parametrize(
    ("text", "matches"),
    [
        ("", True),
        ("name==alpine", True),
        ("name==alpin", False),
        ("name!=alpine", False),
        ("missing!=x", True),
        ("missing==x", False),
        ("name", True),
        ("missing", False),
        ('labels."a.b/c"=="x y"', True),
        ('labels."a.b/c"', True),
        ("labels.plain==v", True),
        ("labels.empty", True),
        (r'labels.q=="say \"hi\""', True),
        ("target.digest==sha256:ab", True),
        ("name~=^alp", True),
        ("name~=pin$", False),
        ("name~=|^alp.*e$|", True),
        ("name~=/^(alpine)$/", True),
        (r'name~="^\\w+$"', True),
        ("name~=|^[[:alpha:]]+$|", True),
        (r"name~=/^\\Qalpine\\E\\z/", True),
        ("name==alpine,labels.plain==w", False),
        ("name==alpine,labels.plain==v", True),
        ('name=="\\x61lpin\\145"', True),
        ("name == alpine", True),
    ],
)
def test_matches(text: str, matches: bool) -> None:
    assert filters.parse(text).match(THING) is matches


def test_list_is_or() -> None:
    assert filters.parse_all([]).match(THING)
    assert filters.parse_all(["name==x", "labels.plain"]).match(THING)
    assert not filters.parse_all(["name==x", "labels.none"]).match(THING)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name=alpine", 'unsupported operator "="'),
        ("name==", "expected value or quoted"),
        ("name== ,b", "expected value or quoted"),
        ("==x", r"\[ >\|=\|< =x\]: expected field or quoted"),
        ("a.", "expected field or quoted"),
        ("a,", "expected field or quoted"),
        ('a=="x', "quoted literal not terminated"),
        (r'a=="\w"', "illegal escape sequence"),
        ("a==/x/", "invalid quote encountered"),
        ("a==b c", r"\[a==b >\| \|< c\]: unexpected input"),
        ("a b", "expected an operator"),
        ("a~=|(|", "regular expression"),
        ("a\0b", "unexpected null"),
        ("a~=" + "x" * 1025, "longer than 1024"),
    ],
)
def test_errors_mark_the_place(text: str, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        filters.parse(text)
