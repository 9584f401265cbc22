"""The conformance kit against this backend; known failures are in xfails.toml."""

from __future__ import annotations

from helora_core.conformance.base import BackendConformance


class TestCupy(BackendConformance):
    backend = "cupy"
