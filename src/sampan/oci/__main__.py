"""`python -m sampan.oci`."""

from __future__ import annotations

import sys

from sampan.oci.main import main

sys.exit(main())
