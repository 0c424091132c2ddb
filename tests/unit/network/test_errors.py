"""What a plugin says when it refuses."""

from sampan.errors import Unknown
from sampan.network.errors import TRY_AGAIN_LATER, PluginError


def test_an_error_says_who_what_and_which_code() -> None:
    error = PluginError(TRY_AGAIN_LATER, "no luck", "today")
    assert str(error) == "no luck; today (code 11)"
    assert str(error.named("bridge")) == "CNI plugin bridge: no luck; today (code 11)"
    assert error.json("1.0.0") == {
        "cniVersion": "1.0.0",
        "code": 11,
        "msg": "no luck",
        "details": "today",
    }
    assert "details" not in PluginError(1, "x").json("1.0.0")
    assert isinstance(error, Unknown)
