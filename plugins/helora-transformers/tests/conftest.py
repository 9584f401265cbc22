"""Shared: torch computes in one thread, and warnings of libraries about themselves are not ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: see the README of helora-transformers")
pytest.importorskip("transformers", reason="transformers is not installed")
pytest.importorskip("peft", reason="peft is not installed: results are compared with its own")

from helora_transformers import attach  # noqa: E402
from helora_transformers.private import PrivateModel  # noqa: E402

BACKEND = "rns"
HERE = Path(__file__).parent


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture
def private(tmp_path: Path) -> Callable[..., Any]:
    """Attaches an adapter, by default that of ``tmp_path``, on our own engine."""

    @contextmanager
    def attached(model: Any, adapter: Any = tmp_path, **options: Any) -> Iterator[PrivateModel]:
        with attach(model, adapter, **{"backend": BACKEND, "buckets": (1,), **options}) as opened:
            yield opened

    return attached


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What libraries say about their own code is no error here."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(r"ignore::DeprecationWarning:torch\..*"))
