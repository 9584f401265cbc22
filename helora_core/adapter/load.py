"""The one door for adapters on disk: a PEFT directory or an ``.npz`` file."""

from __future__ import annotations

import os
from pathlib import Path

from helora_core.adapter.lora import LoRAAdapter
from helora_core.adapter.npz import load_npz
from helora_core.adapter.peft import load_peft
from helora_core.errors import AdapterFormatError


def load_adapter(path: str | os.PathLike[str]) -> LoRAAdapter:
    """Load a LoRA adapter: a directory as PEFT saves it (`load_peft`), or an ``.npz`` file (`load_npz`).

    Raises:
        AdapterFormatError: There is nothing at ``path``, it is of neither kind, or it does not hold plain LoRA.
    """
    location = Path(path)
    if location.is_dir():
        return load_peft(location)
    if not location.exists():
        raise AdapterFormatError(
            f"{location}: there is no such file or directory.",
            hint="Give a PEFT directory (with adapter_config.json) or an .npz file that is on this machine.",
        )
    if location.suffix == ".npz":
        return load_npz(location)
    raise AdapterFormatError(
        f"{location}: it is neither a directory nor an .npz file.",
        hint="Give the directory that holds adapter_config.json and adapter_model.safetensors, not a file in it.",
    )
