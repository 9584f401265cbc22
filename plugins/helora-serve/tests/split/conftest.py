"""A server of mode ``split`` on NumPy, and its base model's folder."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from helora_serve.split.client import connect_split


def beside(path: str) -> ModuleType:
    """A module in a folder of these tests."""
    name = f"helora_serve_tests_{path.replace('/', '_')}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parents[1] / f"{path}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The base model's."""
    return Path(beside("model/tiny").saved(tmp_path_factory.mktemp("split") / "base"))


@pytest.fixture
def layers(folder: Path) -> Any:
    return beside("split/numpy_layers").NumpyLayers(beside("model/tiny"), folder)


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
