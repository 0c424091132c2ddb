from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from sampan.errors import FailedPrecondition, InvalidArgument, NotFound
from sampan.plugin import EVERY, InitContext, PluginType, Registration, Skip, ordered, plugin, start

LOW: PluginType[str] = PluginType("low")
HIGH: PluginType[int] = PluginType("high")


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    size: int = 1


@plugin(HIGH, "sum", config=Config, requires=(LOW,), capabilities=("c",))
async def total(ctx: InitContext[Config]) -> int:
    ctx.instance.exports["root"] = str(ctx.root)
    return ctx.config.size + sum(len(text) for text in ctx.all(LOW).values())


@plugin(LOW, "good")
def good(ctx: InitContext[None]) -> str:
    return "four"


@plugin(LOW, "skipped")
def skipped(ctx: InitContext[None]) -> str:
    raise Skip("no such kernel")


@plugin(LOW, "broken")
def broken(ctx: InitContext[None]) -> str:
    raise OSError("boom")


@plugin(PluginType[None]("last"), "x", requires=(EVERY,))
def last(ctx: InitContext[None]) -> None:
    assert ctx.get(LOW) == "four"
    assert ctx.get(HIGH, "sum") == 14
    with pytest.raises(FailedPrecondition, match="skip plugin: no such kernel"):
        ctx.get(LOW, "skipped")
    with pytest.raises(NotFound):
        ctx.get(LOW, "none")


ALL: list[Registration[Any, Any]] = [last, total, broken, good, skipped]


async def test_starts_in_order_and_keeps_reasons(tmp_path: Path) -> None:
    configs = {"high.sum": {"size": 10}}
    started = [
        each async for each in start(ALL, root=tmp_path, state=tmp_path / "s", configs=configs)
    ]
    by_uri = {each.registration.uri: each for each in started}
    assert list(by_uri) == ["low.broken", "low.good", "low.skipped", "high.sum", "last.x"]
    assert by_uri["high.sum"].value == 14
    assert by_uri["high.sum"].exports == {"root": str(tmp_path / "high.sum")}
    assert by_uri["low.skipped"].init_err == "skip plugin: no such kernel"
    assert by_uri["low.broken"].init_err == "boom"
    assert by_uri["last.x"].ok


async def test_bad_config_and_disabled(tmp_path: Path) -> None:
    configs: dict[str, dict[str, object]] = {"high.sum": {"sizes": 10}, "low.good": {"a": 1}}
    found = {
        each.registration.uri: each.init_err
        async for each in start(
            [total, good], root=tmp_path, state=tmp_path, configs=configs, disabled=["low.x"]
        )
    }
    assert "unknown field `sizes`" in found["high.sum"]
    assert "takes no configuration" in found["low.good"]


def test_circles_and_twins() -> None:
    a: Registration[str, None] = Registration(LOW, "a", lambda _: "", requires=(HIGH,))
    b: Registration[int, None] = Registration(HIGH, "b", lambda _: 1, requires=(LOW,))
    with pytest.raises(InvalidArgument, match="require each other"):
        ordered([a, b])
    with pytest.raises(InvalidArgument, match="twice"):
        ordered([a, a])
