"""The text format, as Prometheus reads it."""

from __future__ import annotations

from sampan.daemon.prometheus import Family, Histogram, render


def test_families() -> None:
    one = Family("a_total", "counter", "How\nmany.")
    one.add(3, {"l": 'q"\\\n'})
    one.add(1.5)
    empty = Family("b", "gauge", "Nothing.")
    assert render([one, empty]).decode() == (
        "# HELP a_total How\\nmany.\n# TYPE a_total counter\n"
        'a_total{l="q\\"\\\\\\n"} 3\na_total 1.5\n'
    )


def test_histogram_counts_cumulatively() -> None:
    kept, family = Histogram(), Family("s", "histogram", "Seconds.")
    for seconds in (0.001, 0.3, 99.0):
        kept.observe(seconds)
    kept.add_to(family, {"m": "x"})
    lines = render([family]).decode().splitlines()
    assert 's_bucket{m="x",le="0.005"} 1' in lines
    assert 's_bucket{m="x",le="0.5"} 2' in lines
    assert 's_bucket{m="x",le="10"} 2' in lines
    assert 's_bucket{m="x",le="+Inf"} 3' in lines
    assert 's_count{m="x"} 3' in lines
    assert 's_sum{m="x"} 99.301' in lines
