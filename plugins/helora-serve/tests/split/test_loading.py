"""What ``helora serve --split`` refuses before anything is loaded: options without a model, and a missing torch."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from helora_core.errors import InvalidInput
from helora_serve.split.loading import load_layers, models_of


@pytest.mark.parametrize(
    ("base", "adapters", "encrypted", "hosted", "words"),
    [
        (False, ("a",), False, False, "none is given"),
        (False, (), True, False, "none is given"),
        (False, (), False, True, "none is given"),
        (True, (), True, False, "no adapter"),
        (True, (), False, True, "no adapter"),
        (True, ("a", "b"), False, False, "no name"),
        (True, ("x=a", "x=b"), False, False, "the name of another"),
        (True, ("=a",), False, False, "no name"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    refused: Any, folder: Path, base: bool, adapters: tuple[str, ...], encrypted: bool, hosted: bool, words: str
) -> None:
    with refused(InvalidInput, words):
        models_of(folder if base else None, adapters, encrypted=encrypted, hosted=hosted)


def test_without_a_base_model_there_is_neither_mode() -> None:
    assert models_of(None, (), encrypted=False, hosted=False) == (None, None)


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is installed")
def test_without_torch_it_is_said_what_to_install(refused: Any, folder: Path) -> None:
    with refused(InvalidInput, "torch", "pip install"):
        load_layers(folder, {})


def test_the_server_asks_for_torch_only_when_a_model_is_loaded() -> None:
    check = "import sys, helora_serve.app, helora_serve.split.client, helora_serve.split.loading as l, helora_serve.cli"
    check += "; l.models_of(None, (), encrypted=False, hosted=False); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
