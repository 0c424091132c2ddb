"""The loop of one thread."""

import os

from sampan.rpc.loop import IN, Loop


def test_a_timer_in_the_far_future_does_not_stop_the_loop() -> None:
    loop = Loop()
    reading, writing = os.pipe()
    seen: list[int] = []
    try:
        loop.call_later(10.0**9, lambda: seen.append(-1))
        loop.watch(reading, IN, seen.append)
        os.write(writing, b"x")
        loop.run_once()
        assert seen == [IN]
    finally:
        loop.close()
        os.close(reading)
        os.close(writing)


def test_timers_come_in_their_order() -> None:
    loop = Loop()
    seen: list[int] = []
    loop.call_later(0.002, lambda: seen.append(2))
    loop.call_later(0.003, loop.stop)
    loop.call_later(0.001, lambda: seen.append(1))
    loop.call_later(0.0015, lambda: seen.append(9)).cancel()
    loop.run()
    loop.close()
    assert seen == [1, 2]
