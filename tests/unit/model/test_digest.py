import hashlib

import pytest

from sampan.errors import InvalidArgument
from sampan.model import digest


@pytest.mark.parametrize("algorithm", digest.ALGORITHMS)
def test_of_bytes_parses_and_checks(algorithm: str) -> None:
    found = digest.of_bytes(b"content", algorithm)
    assert digest.parse(found) == found
    assert digest.encoded(found) == hashlib.new(algorithm, b"content").hexdigest()
    assert digest.algorithm(found) == algorithm
    running = digest.hasher(found)
    running.update(b"content")
    assert running.hexdigest() == digest.encoded(found)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256",
        "sha256:",
        "sha256:" + 63 * "0",
        "sha256:" + 65 * "0",
        "sha256:" + 63 * "0" + "A",
        "sha256:" + 63 * "0" + "\n",
        "SHA256:" + 64 * "0",
        "md5:" + 32 * "0",
        "sha256:../" + 61 * "0",
        "sha512:" + 64 * "0",
        "sha256:" + 64 * "\uff10",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="digest"):
        digest.parse(text)
