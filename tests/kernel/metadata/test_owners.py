from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sampan.metadata.owners import Owners

CODE = """
import sys; from pathlib import Path
from sampan.metadata.owners import Owners
owners = Owners(Path(sys.argv[1]))
print(owners.id, flush=True)
sys.stdin.read()
"""


def test_alive_until_killed_and_reaped_after(tmp_path: Path) -> None:
    ours = Owners(tmp_path)
    child = subprocess.Popen(
        [sys.executable, "-c", CODE, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    other = child.stdout.readline().decode().strip()
    assert ours.alive() == {ours.id, other}
    assert ours.reap() == []
    child.kill()
    child.communicate(timeout=10)
    assert not ours.is_alive(other)
    assert ours.reap() == [other]
    assert ours.alive() == {ours.id}
    ours.close()
    ours.close()
    assert list(tmp_path.iterdir()) == []
    assert not ours.is_alive("nobody")
