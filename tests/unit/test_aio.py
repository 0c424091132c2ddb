"""Both faces offer the same names, and importing the package loads none of them."""

import subprocess
import sys

import sampan
import sampan.aio


def test_the_same_names() -> None:
    for name in sampan.aio.__all__:
        assert hasattr(sampan, name), name
        assert sampan.aio.__dict__[name] is not getattr(sampan, name)


def test_everything_that_is_promised_is_there() -> None:
    for name in sampan.__all__:
        assert getattr(sampan, name) is not None
    assert sampan.aio is sys.modules["sampan.aio"]


def test_the_import_is_cheap() -> None:
    code = "import sys, sampan; print('asyncio' in sys.modules, 'sampan.sandbox' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False False\n"
