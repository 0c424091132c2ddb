"""Bundles: their modes, their lock, and what is left of those that were cut short."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sampan.errors import AlreadyExists, InvalidArgument, NotFound, Unavailable
from sampan.runtime.bundle import Bundle, Lock, bundles, sweep


def make(state: Path, id: str = "c1") -> Bundle:
    bundle = Bundle(state, "default", id)
    with Lock() as lock:
        bundle.create(b"{}", lock, {"runtime": b"r"})
    return bundle


def test_modes_do_not_depend_on_the_umask(state: Path) -> None:
    before = os.umask(0o777)
    os.umask(0)
    try:
        bundle = make(state)
    finally:
        os.umask(before)
    assert bundle.path.stat().st_mode & 0o777 == 0o700
    assert bundle.socket.parent.stat().st_mode & 0o777 == 0o700
    assert (bundle.path / "config.json").stat().st_mode & 0o777 == 0o600
    assert bundle.read("runtime") == "r"


def test_a_second_one_of_that_name_is_refused_and_leaves_nothing(state: Path) -> None:
    bundle = make(state)
    with pytest.raises(AlreadyExists):
        make(state)
    assert os.listdir(bundle.path.parent) == ["c1"]


@pytest.mark.parametrize("id", ["../x", "", "a/b", "a" * 77])
def test_no_path_gets_out_of_the_folder(state: Path, id: str) -> None:
    with pytest.raises(InvalidArgument):
        Bundle(state, "default", id)


def test_the_socket_path_is_short_whatever_the_names(state: Path) -> None:
    long = Bundle(Path("/run/sampan"), "n" * 76, "c" * 64)
    assert len(os.fsencode(long.socket)) < 107


def test_who_holds_the_lock_keeps_others_out(state: Path) -> None:
    bundle = Bundle(state, "default", "c1")
    with Lock() as lock:
        bundle.create(b"{}", lock, {})
        with Lock() as other, pytest.raises(Unavailable):
            other.take(bundle.path)
    with Lock() as other:
        other.take(bundle.path)


def test_the_lock_of_a_replaced_bundle_is_worth_nothing(state: Path) -> None:
    bundle = make(state)
    bundle.remove()
    with Lock() as lock, pytest.raises(FileNotFoundError):
        lock.take(bundle.path)


def test_remove_never_empties_what_is_still_mounted(state: Path) -> None:
    bundle = make(state)
    (bundle.rootfs / "precious").write_text("here")
    with pytest.raises(OSError, match="not empty"):
        bundle.remove()
    assert (bundle.rootfs / "precious").read_text() == "here"
    (bundle.rootfs / "precious").unlink()
    bundle.remove()
    assert not bundle.exists()
    with pytest.raises(NotFound):
        bundle.require()


def test_sweep_takes_what_was_cut_short_and_leaves_the_living(state: Path) -> None:
    bundle = make(state)
    folder = bundle.path.parent
    (folder / ".dead.1.2.new" / "rootfs").mkdir(parents=True)
    (folder / ".dead.3.gone").mkdir()
    living = folder / ".living.1.2.new"
    living.mkdir()
    with Lock() as lock:
        lock.take(living)
        sweep(state)
        assert sorted(os.listdir(folder)) == [".living.1.2.new", "c1"]
    sweep(state)
    assert os.listdir(folder) == ["c1"]
    assert [one.id for one in bundles(state)] == ["c1"]
