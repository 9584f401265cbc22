"""Makes the package ``doubles`` importable from the tests beside it, and from the door that the trials run."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
