"""Docker's own grammar beside ours: each of its flags is ours, explained, or named as missing."""

import subprocess
import sys
from pathlib import Path

from sampan.testing import requires

DOCS = Path(__file__).parents[3] / "docs"


@requires("docker")
def test_the_reference_table_is_what_docker_and_we_say() -> None:
    done = subprocess.run(
        [sys.executable, DOCS / "docker_grammar.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}: run python docs/docker_grammar.py"


def test_the_pages_of_the_parsers_are_current() -> None:
    done = subprocess.run(
        [sys.executable, DOCS / "generate.py", "--check"], capture_output=True, text=True
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}: run python docs/generate.py"
