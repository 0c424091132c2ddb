import pytest

from sampan.distribution.registry.proxies import Proxies

ENVIRON = {
    "HTTPS_PROXY": "http://proxy:3128",
    "http_proxy": "proxy:8080",
    "NO_PROXY": "example.com, .inner.net,10.0.0.0/8,host.io:8443,192.168.1.1",
}


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("https://quay.io/v2", "http://proxy:3128"),
        ("http://quay.io/v2", "http://proxy:8080"),
        ("https://example.com/", None),
        ("https://a.example.com/", None),
        ("https://notexample.com/", "http://proxy:3128"),
        ("https://x.inner.net/", None),
        ("https://10.1.2.3:5000/", None),
        ("https://11.1.2.3/", "http://proxy:3128"),
        ("https://host.io:8443/", None),
        ("https://host.io/", "http://proxy:3128"),
        ("http://192.168.1.1:5000/", None),
        ("http://localhost:5000/", None),
        ("http://127.0.0.1/", None),
        ("http://[::1]:5000/", None),
    ],
)
def test_which_proxy(url: str, proxy: str | None) -> None:
    assert Proxies(ENVIRON).for_url(url) == proxy


def test_none_and_star_and_cgi() -> None:
    assert Proxies({}).for_url("https://quay.io") is None
    assert Proxies(ENVIRON | {"NO_PROXY": "*"}).for_url("https://quay.io") is None
    cgi = {"HTTP_PROXY": "http://evil", "REQUEST_METHOD": "GET"}
    assert Proxies(cgi).for_url("http://quay.io") is None
    assert Proxies({"ALL_PROXY": "http://all"}).for_url("http://quay.io") == "http://all"
