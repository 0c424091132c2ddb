"""What the daemon shows of itself."""

from __future__ import annotations

from importlib import import_module

from sampan.daemon.served import HANDLERS, instances


def test_each_is_shown_once_and_works() -> None:
    found = [(str(one.registration.type), one.registration.id) for one in instances()]
    assert len(found) == len(set(found))
    assert ("io.containerd.runtime.v2", "task") in found
    assert all(one.ok for one in instances())


def test_handlers_exist() -> None:
    for name in HANDLERS:
        module, _, attribute = name.partition(":")
        assert callable(getattr(import_module(module), attribute))


def test_what_the_engine_has_started_is_not_shown_twice() -> None:
    first = instances()[0]
    assert first.registration.uri not in [one.registration.uri for one in instances([first])]


def test_the_module_of_handlers_can_be_imported() -> None:
    assert import_module("sampan.daemon.handlers").handlers
