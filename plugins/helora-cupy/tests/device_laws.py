"""The tests of helora-rns's kernel sets, word for word, run by kernels on a device."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from helora_rns import choice

TESTS = Path(__file__).parents[2] / "helora-rns" / "tests"


def of_kernel_sets(file: str, called: str = "device", **made: Callable[..., Any]) -> ModuleType:
    """A copy of a test module of helora-rns for which the one compiled kernel set is a device's.

    Args:
        file: Its name, without its ending.
        called: What the set is called, where the module knows the names.
        made: Names in it, with what stands in their place.
    """
    spec = importlib.util.spec_from_file_location(f"{file}_on_a_device", TESTS / f"{file}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with mock.patch.object(choice, "available", return_value=("numpy", called)):  # which parameters are made of
        spec.loader.exec_module(module)
    for name, value in made.items():
        assert hasattr(module, name)
        setattr(module, name, value)
    return module
