"""A server of mode ``split`` on NumPy, and its base model's folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from helora_serve.split.client import connect_split
from tests.loading import module_at

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def tiny() -> ModuleType:
    """The base model."""
    return module_at(HERE.parent / "model" / "tiny.py")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny: ModuleType) -> Path:
    """The base model's."""
    return Path(tiny.saved(tmp_path_factory.mktemp("split") / "base"))


@pytest.fixture
def layers(folder: Path, tiny: ModuleType) -> Any:
    return module_at(HERE / "numpy_layers.py").NumpyLayers(tiny, folder)


@pytest.fixture
def splitting(serving: Any, layers: Any, folder: Path) -> Iterator[Callable[..., Any]]:
    """``splitting(…)``: a server with ``layers``, and a function that opens sessions there."""
    with ExitStack() as stack:

        def start(**options: Any) -> tuple[Any, Callable[..., Any]]:
            served = serving(layers=layers, **options)

            def model(address: str | None = None, **how: Any) -> Any:
                return stack.enter_context(connect_split(address or served.host.url, folder, **how))

            return served, model

        yield start
