"""Every error has a code, every code an error, and each comes back as itself."""

import pytest

from sampan import errors
from sampan.rpc.status import CODES, NAMES, code_of, from_status, text_of

CLASSES = [getattr(errors, name) for name in errors.__all__ if name != "SampanError"]


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_survives_the_way(kind: type[errors.SampanError]) -> None:
    back = from_status(code_of(kind("words")), text_of(kind("words")))
    assert type(back) is kind
    assert str(back) == "words"


def test_the_table_is_complete() -> None:
    assert sorted(CODES.values()) == list(range(1, 17))
    assert set(CODES) == set(CLASSES)
    assert len(NAMES) == 17


def test_subclasses_strangers_and_lost_codes() -> None:
    class Narrow(errors.NotFound):
        pass

    assert code_of(Narrow()) == 5
    assert code_of(ValueError("x")) == 2
    assert code_of(TimeoutError()) == 4
    assert isinstance(from_status(2, "container c1: not found"), errors.NotFound)
    assert type(from_status(99, "strange")) is errors.Unknown
    assert text_of(errors.NotFound()) == "NotFound"
