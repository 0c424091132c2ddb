"""Cache and memory bandwidth: the life of a folder on plain files, and the words without one."""

from collections.abc import Callable
from pathlib import Path

import pytest

from sampan.errors import FailedPrecondition, Unimplemented
from sampan.linux import mounts
from sampan.model.runtime.linux import IntelRdt
from sampan.oci.rdt import ClassOfService, plan_rdt
from sampan.testing import Bundle, Runtime, requires

HAS = any(info.fstype == b"resctrl" for info in mounts.mountinfo())


@pytest.mark.skipif(HAS, reason="resctrl is mounted here")
@requires("root", "busybox")
def test_without_resctrl_it_is_said(make_runtime: Callable[[str], Runtime], bundle: Bundle) -> None:
    bundle.linux["intelRdt"] = {"closID": "gold", "l3CacheSchema": "L3:0=f"}
    result = make_runtime("sampan-exec").run(bundle, "true")
    assert result.returncode == 1
    assert "resctrl is not mounted" in result.stderr


@pytest.mark.skipif(HAS, reason="resctrl is mounted here")
def test_planning_without_resctrl() -> None:
    with pytest.raises(Unimplemented, match="resctrl"):
        plan_rdt(IntelRdt(clos_id="gold"), "c1")


def test_one_that_we_made_is_ours_to_remove(tmp_path: Path) -> None:
    made = ClassOfService(str(tmp_path / "gold"), ["L3:0=f"], must_exist=False)
    assert made.set_up()
    assert (tmp_path / "gold/schemata").read_text() == "L3:0=f\n"
    again = ClassOfService(str(tmp_path / "gold"), ["L3: 0=f"], must_exist=False)
    assert not again.set_up(), "it was there, with what is asked"
    other = ClassOfService(str(tmp_path / "gold"), ["L3:0=1"], must_exist=False)
    with pytest.raises(FailedPrecondition, match="already"):
        other.set_up()


def test_a_class_without_schemata_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="is not there"):
        ClassOfService(str(tmp_path / "gold"), [], must_exist=True).set_up()
    assert not (tmp_path / "gold").exists()


def test_removal_forgives_what_is_gone(tmp_path: Path) -> None:
    ClassOfService(str(tmp_path / "gone"), [], must_exist=False).remove()


def test_processes_that_cannot_be_put_in(tmp_path: Path) -> None:
    with pytest.raises(FailedPrecondition, match="tasks"):
        ClassOfService(str(tmp_path / "none"), [], must_exist=False).add(1)
