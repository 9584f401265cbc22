"""The test class that a trial collects: the whole kit, against the trial's backend."""

from __future__ import annotations

import pytest

from helora_core.backend.protocol import Backend
from helora_core.conformance.base import BackendConformance


class TestDouble(BackendConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def backend_under_test(cls, backend_on_trial: Backend) -> Backend:
        return backend_on_trial
