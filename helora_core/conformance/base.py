"""``BackendConformance``: all suites as one test class, to subclass and name a backend."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import ClassVar

import pytest

from helora_core.backend.protocol import Backend
from helora_core.conformance.bench import Bench
from helora_core.conformance.requirements import unmet
from helora_core.conformance.suites import SUITES
from helora_core.errors import BackendUnavailable


def _standard_tests() -> dict[str, Callable[..., object]]:
    return {name: attribute for suite in SUITES for name, attribute in vars(suite).items() if name.startswith("test_")}


STANDARD_TESTS = _standard_tests()
"""Every law of the kit by name. The names are the ids in ``xfails.toml`` and in reports."""


class BackendConformance(*SUITES):  # type: ignore[misc]
    """Subclass it as ``Test…`` and set ``backend`` to a registered name.

    A backend that is not registered is tested by overriding ``backend_under_test``.
    """

    backend: ClassVar[str] = ""

    @pytest.fixture(scope="class")
    @classmethod
    def backend_under_test(cls, request: pytest.FixtureRequest) -> Backend:
        """The backend, loaded by name; skipped if its library is missing, unless it is required.

        An unregistered name is an error: if it were skipped, a misspelt one would look like a missing library forever.
        """
        from helora_core.host.manager import get_manager

        name = cls.backend or request.config.getoption("--helora-backend")
        manager = get_manager()
        try:
            return manager.load_backend(name)
        except BackendUnavailable as error:
            if name not in manager.backends() or request.config.getoption("--helora-require"):
                raise
            pytest.skip(error.message)

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls, backend_under_test: Backend) -> Bench:
        """The backend with its sessions; one for all laws."""
        return Bench(backend_under_test)

    @pytest.fixture(autouse=True)
    def _requirements(self, request: pytest.FixtureRequest, bench: Bench) -> None:
        """Skip a law about an ability that the backend does not claim, and a slow one unless asked for it."""
        law = getattr(request.function, "__func__", request.function)
        reason = unmet(law, bench.capabilities, thorough=request.config.getoption("--helora-thorough"))
        if reason:
            pytest.skip(reason)

    def test_no_standard_test_is_overridden_or_deleted(self) -> None:
        """A law that a subclass replaced proves nothing; a known failure belongs into xfails.toml."""
        changed = [name for name, law in STANDARD_TESTS.items() if getattr(type(self), name, None) is not law]
        # The laws see the backend through these: a subclass that had its own could make any of them pass.
        for name in ("bench", "_requirements"):
            if inspect.getattr_static(type(self), name) is not vars(BackendConformance)[name]:
                changed.append(name)
        assert not changed, f"overridden or deleted: {', '.join(changed)}; list known failures in xfails.toml instead"
