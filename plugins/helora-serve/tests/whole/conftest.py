"""A tiny model of transformers with an adapter, served in modes split and hosted. Without torch it is left out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

MISSING = [name for name in ("torch", "transformers", "peft") if find_spec(name) is None]
if MISSING and os.environ.get("HELORA_REQUIRE_MODELS"):
    raise pytest.UsageError(f"HELORA_REQUIRE_MODELS: not installed: {', '.join(MISSING)}")
collect_ignore_glob = ["test_*.py"] if MISSING else []
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What libraries say about their own code is no error here."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(r"ignore::DeprecationWarning:torch\..*"))
            item.add_marker(pytest.mark.filterwarnings(r"ignore::FutureWarning:(peft|transformers)\..*"))


class Place:
    """Folders of a base model and an adapter, and PEFT's model of both."""

    def __init__(self, folder: Path) -> None:
        from helora_transformers.tiny import adapted, save_tiny

        self.base, self.adapter = save_tiny(folder / "base"), folder / "adapter"
        self.peft = adapted("llama", self.adapter, targets=["q_proj", "v_proj", "down_proj"])

    def greedy(self, prompt: list[int], most: int, *, adapter: bool = True) -> list[int]:
        """The most probable tokens, by PEFT's plaintext LoRA or the base model, without a cache."""
        import torch

        made: list[int] = []
        with torch.no_grad():
            for _ in range(most):
                ids = torch.tensor([prompt + made])
                if adapter:
                    logits = self.peft(ids).logits
                else:
                    with self.peft.disable_adapter():
                        logits = self.peft(ids).logits
                made.append(int(logits[0, -1].argmax()))
        return made


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def layers(place: Place) -> Iterator[Any]:
    """With the adapter in plaintext."""
    from helora_serve.split.loading import load_layers

    made = load_layers(place.base, {"default": place.adapter})
    yield made
    made.close()


class Kept:
    """Layers that more than one test uses: servers do not close them."""

    def __init__(self, layers: Any) -> None:
        self._layers = layers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layers, name)

    def close(self) -> None:
        """Not now."""


@pytest.fixture(scope="session")
def both(place: Place) -> Iterator[Any]:
    """With the adapter encrypted in mode split, and every variant in mode hosted."""
    from helora_serve.split.loading import load_layers

    made = load_layers(place.base, {"default": place.adapter}, encrypted=True)
    yield Kept(made)
    made.close()
