"""Shared. Without torch, transformers and PEFT only the tests of the link are there, unless ``HELORA_REQUIRE_MODELS``
says that the others must be.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
BACKEND = "rns"
MISSING = [name for name in ("torch", "transformers", "peft") if find_spec(name) is None]
if MISSING and os.environ.get("HELORA_REQUIRE_MODELS"):
    raise pytest.UsageError(f"HELORA_REQUIRE_MODELS: not installed: {', '.join(MISSING)}")
collect_ignore_glob = ["test_*.py", "cli"] if MISSING else []


def pytest_report_header() -> list[str]:
    """Why tests are left out."""
    return [f"helora-transformers: only the link is tested, without {', '.join(MISSING)}"] if MISSING else []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What libraries say about their own code is no error here."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(r"ignore::DeprecationWarning:torch\..*"))


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """torch computes in one thread."""
    if not MISSING:
        import torch

        torch.set_num_threads(1)


@pytest.fixture
def private(tmp_path: Path) -> Callable[..., Any]:
    """Attaches an adapter, by default that of ``tmp_path``, on our own engine."""
    from helora_transformers import attach

    @contextmanager
    def attached(model: Any, adapter: Any = tmp_path, **options: Any) -> Iterator[Any]:
        with attach(model, adapter, **{"backend": BACKEND, "buckets": (1,), **options}) as opened:
            yield opened

    return attached
