"""Go templates, the part that people use."""

import pytest

from sampan.cli.template import render
from sampan.errors import InvalidArgument

VALUE = {
    "Name": "Web",
    "State": {"Pid": 7, "Running": True},
    "Mounts": [1, 2],
    "L": {"a.b": "c"},
    "Empty": [],
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{.Name}}", "Web"),
        ("{{ .State.Pid }}/{{.State.Running}}", "7/true"),
        ("{{json .State}}", '{"Pid": 7, "Running": true}'),
        ("{{upper .Name}}{{lower .Name}}", "WEBweb"),
        ("{{len .Mounts}}", "2"),
        ('{{index .L "a.b"}}', "c"),
        ("{{.Name}}\\t{{.State.Pid}}", "Web\t7"),
        ("{{range .Mounts}}[{{.}}]{{else}}none{{end}}", "[1][2]"),
        ("{{range .Empty}}[{{.}}]{{else}}none{{end}}", "none"),
        ("{{range $k, $v := .L}}{{$k}}={{$v}};{{end}}", "a.b=c;"),
        ("{{range $i, $v := .Mounts}}{{$i}}:{{$v}} {{$.Name}},{{end}}", "0:1 Web,1:2 Web,"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if not .State.Running}}down{{else if eq .State.Pid 7}}seven{{end}}", "seven"),
        ("{{if and .State.Running (gt .State.Pid 6)}}yes{{end}}", "yes"),
        ("{{with .State}}{{.Pid}}{{end}}", "7"),
        ('{{.Name | upper | printf "%-5s|"}}', "WEB  |"),
        ('{{join .Mounts ", "}} {{index (split "a/b" "/") 1}}', "1, 2 b"),
        ("{{$x := .Name}}a {{- $x -}} b{{/* never seen }} */}}", "aWebb"),
        ('{{"}}"}}{{`"`}}', '}}"'),
        ("{{truncate .Name 2}}{{title .Name}}{{slice .Name 1 2}}", "WeWebe"),
    ],
)
def test_render(template: str, text: str) -> None:
    assert render(template, VALUE) == text


@pytest.mark.parametrize(
    "template",
    [
        "{{.Nothing}}",
        "{{range .Mounts}}",
        "{{printf .X}}",
        '{{"}}',
        "{{end}}",
        "{{fly .Name}}",
        "{{range .Name}}{{end}}",
        "{{.Name .Name}}",
        "{{$y}}",
        "{{(.Name}}",
        "{{}}",
        "{{if .Name}}a{{else}}b",
        "{{lt .Name 1}}",
        "{{.Name upper}}",
    ],
)
def test_what_it_cannot_do_is_said(template: str) -> None:
    with pytest.raises(InvalidArgument, match="format"):
        render(template, VALUE)
