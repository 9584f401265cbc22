"""The conformance kit: what a backend must do to be trusted, as tests that anybody can run against one.

Two doors: ``helora conform BACKEND``, and for a plugin's own CI a test class::

    from helora_core.conformance.base import BackendConformance

    class TestAcme(BackendConformance):
        backend = "acme"

It needs the extra ``conformance`` (pytest and Hypothesis) and nothing of helora's own tests.
"""

KIT_VERSION = "2.1"
"""Raised with every law added or changed; reports carry it."""
