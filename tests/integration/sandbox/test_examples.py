"""Each example, and each block of Python in the tutorial and the how-tos, is run."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sampan.testing import requires

pytestmark = requires("root")

TOP = Path(__file__).parents[3]
EXAMPLES = [TOP / f"examples/{name}.py" for name in ("untrusted_code", "branches", "many")]
PAGES = [
    *("docs/tutorial/library.md", "docs/howto/sandbox-untrusted-code.md", "docs/howto/tests.md"),
    "docs/howto/rootless.md",
]


def run(argv: list[str], root: Path, state: Path, folder: Path) -> str:
    env = {**os.environ, "SAMPAN_ROOT": str(root), "SAMPAN_STATE": str(state)}
    env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, env=env, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_there_are_some() -> None:
    assert all(path.exists() for path in EXAMPLES)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path, root: Path, state: Path, tmp_path: Path) -> None:
    assert run([sys.executable, str(path)], root, state, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: Path(page).stem)
def test_page(page: str, root: Path, state: Path, tmp_path: Path) -> None:
    """The blocks of a page are one program, in their order."""
    blocks = re.findall(
        r"^```python\n(.*?)^```$", (TOP / page).read_text(), re.MULTILINE | re.DOTALL
    )
    assert blocks
    program = tmp_path / "page.py"
    program.write_text("import sampan\n" + "\n".join(blocks))
    run([sys.executable, str(program)], root, state, tmp_path)
