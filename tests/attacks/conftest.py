"""Makes the package ``attackers`` importable from the tests beside it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from helora_core.backend.protocol import Backend
from helora_core.host.manager import get_manager

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def tenseal() -> Backend:
    """A real library."""
    pytest.importorskip("tenseal")
    return get_manager().load_backend("tenseal")
