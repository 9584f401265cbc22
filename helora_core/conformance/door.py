"""The test class that ``helora conform`` runs: the kit against the backend that an option names."""

from __future__ import annotations

from helora_core.conformance.base import BackendConformance


class TestBackend(BackendConformance):
    """The backend of ``--helora-backend``."""
