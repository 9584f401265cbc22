"""The conformance kit against both backends; known failures are in xfails.toml."""

from __future__ import annotations

from helora_core.conformance.base import BackendConformance


class TestOpenFHE(BackendConformance):
    backend = "openfhe"


class TestOpenFHEAuto(BackendConformance):
    backend = "openfhe_auto"
