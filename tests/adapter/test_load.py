from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from helora_core.adapter.load import load_adapter
from helora_core.adapter.npz import save_npz
from helora_core.errors import AdapterFormatError


def test_a_directory_is_pefts_and_an_npz_file_is_ours(peft_directory: Callable[..., Path], tmp_path: Path) -> None:
    from_peft = load_adapter(peft_directory())
    save_npz(from_peft, tmp_path / "a.npz")
    assert load_adapter(str(tmp_path / "a.npz")).digest == from_peft.digest


def test_nothing_there_is_refused(tmp_path: Path, refused: Callable[..., Any]) -> None:
    for name in ("adapter", "a.npz"):
        with refused(AdapterFormatError, str(tmp_path / name), "no such file"):
            load_adapter(tmp_path / name)


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "adapter_model.bin", "adapter.pt", "npz"])
def test_another_file_is_refused(tmp_path: Path, refused: Callable[..., Any], name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    with refused(AdapterFormatError, name, hint="adapter_config.json"):
        load_adapter(tmp_path / name)


def test_an_empty_directory_is_refused(tmp_path: Path, refused: Callable[..., Any]) -> None:
    with refused(AdapterFormatError, str(tmp_path), "adapter_config.json"):
        load_adapter(tmp_path)
