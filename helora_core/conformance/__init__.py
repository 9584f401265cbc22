"""The conformance kit: the laws that a backend must keep to be trusted, as tests that anyone can run against one.

Run it by ``helora conform BACKEND`` or, in a plugin's own CI, by a test class::

    from helora_core.conformance.base import BackendConformance

    class TestAcme(BackendConformance):
        backend = "acme"

It needs the extra ``conformance`` (pytest and Hypothesis) and nothing of helora's own tests.
"""

KIT_VERSION = "2.2"
"""Raised whenever a law is added or changed; part of every report."""
