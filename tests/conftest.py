"""What all tests share: one Hypothesis profile, and how a refusal must look."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import hypothesis
import pytest

from helora_core.errors import HeloraError

# Deadlines measure the machine. CI runs the same examples each time; elsewhere every run looks at new ones.
hypothesis.settings.register_profile("helora", deadline=None, derandomize="CI" in os.environ)
hypothesis.settings.load_profile("helora")

Refused = Callable[..., AbstractContextManager[None]]


@pytest.fixture(scope="session")
def refused() -> Refused:
    """``with refused(kind, *words, hint=…):`` – exactly that error is raised; it names the words and has a hint."""

    @contextmanager
    def check(kind: type[HeloraError], *words: str, hint: str = "") -> Iterator[None]:
        with pytest.raises(HeloraError) as caught:
            yield
        error = caught.value
        assert type(error) is kind
        for word in words:
            assert word in error.message
        assert error.hint.strip()
        assert hint in error.hint

    return check
