"""Our own config.toml: strict, and spread over several files."""

from __future__ import annotations

from pathlib import Path

import pytest

from sampan.engine.config import resolve
from sampan.errors import InvalidArgument

GC = "io.containerd.gc.v1.scheduler"


def refused(path: Path) -> str:
    with pytest.raises(InvalidArgument) as caught:
        resolve({"config": str(path)}, {}, uid=0)
    return str(caught.value)


def test_imports_win(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/1.toml").write_text(
        f'runtime = "x.y"\n[plugins."{GC}"]\npause_threshold = 0.1\n'
    )
    (tmp_path / "d/2.toml").write_text(f'[plugins."{GC}"]\nstartup_delay = "2s"\n')
    main = tmp_path / "c.toml"
    main.write_text(f'imports = ["d/*.toml"]\n[plugins."{GC}"]\npause_threshold = 0.5\n')
    settings = resolve({"config": str(main)}, {}, uid=0)
    assert settings.runtime == "x.y"
    assert settings.plugins[GC] == {"pause_threshold": 0.1, "startup_delay": "2s"}


def test_an_unknown_key_of_a_known_plugin_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text(f'[plugins."{GC}"]\npause = 1\n')
    assert f'unknown key plugins."{GC}".pause' in refused(file)


def test_a_wrong_type_in_an_import_names_the_import(tmp_path: Path) -> None:
    file, other = tmp_path / "c.toml", tmp_path / "other.toml"
    file.write_text('imports = ["other.toml"]\n')
    other.write_text(f'[plugins."{GC}"]\nschedule_delay = "soon"\n')
    text = refused(file)
    assert str(other) in text
    assert f'plugins."{GC}".schedule_delay' in text


def test_log_format_is_one_of_two(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('log_format = "xml"\n')
    assert "log_format" in refused(file)
