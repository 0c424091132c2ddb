"""`python -m sampan.oci`, and what the launcher runs: see `protection`."""

from __future__ import annotations

import os
import sys

if not __package__:
    # Run by its path, without site: nothing but the standard library can be found yet.
    sys.path.append(os.path.dirname(os.path.dirname(os.path.dirname(__file__))))

from sampan.oci import protection
from sampan.oci.main import main

if __name__ == "__main__":
    protection.enter(__file__)
    sys.exit(main())
