"""Go templates, the part that people use."""

import pytest

from sampan.cli.template import render
from sampan.errors import InvalidArgument

VALUE = {"Name": "Web", "State": {"Pid": 7, "Running": True}, "Mounts": [1, 2], "L": {"a.b": "c"}}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.Name}}", "Web"),
        ("{{ .State.Pid }}/{{.State.Running}}", "7/true"),
        ("{{json .State}}", '{"Pid": 7, "Running": true}'),
        ("{{upper .Name}}{{lower .Name}}", "WEBweb"),
        ("{{len .Mounts}}", "2"),
        ('{{index .L "a.b"}}', "c"),
        ("table {{.Name}}\\t{{.State.Pid}}", "Web\t7"),
    ],
)
def test_render(template: str, text: str) -> None:
    assert render(template, VALUE) == text


@pytest.mark.parametrize(
    "template", ["{{.Nothing}}", "{{range .Mounts}}", "{{printf .X}}", '{{"}}']
)
def test_what_it_cannot_do_is_said(template: str) -> None:
    with pytest.raises(InvalidArgument, match="format"):
        render(template, VALUE)
