"""helora: LoRA adapters over encrypted activations, on any CKKS library.

Importing this loads no plugin and no library for homomorphic encryption; names are resolved when first used.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Assumption": "helora_core.privacy.leakage",
    "Client": "helora_core.parties.client",
    "AnchoredStore": "helora_core.parties.anchored_store",
    "CKKSParams": "helora_core.params.ckks",
    "LoRAAdapter": "helora_core.adapter.lora",
    "LoRAModule": "helora_core.adapter.lora",
    "ModuleShape": "helora_core.adapter.lora",
    "CompiledLoRA": "helora_core.parties.compiled_lora",
    "Constraints": "helora_core.compiler.request",
    "Deferred": "helora_core.parties.store",
    "DirectoryStore": "helora_core.parties.directory_store",
    "HeloraError": "helora_core.errors",
    "MemoryStore": "helora_core.parties.store",
    "SealedStore": "helora_core.parties.sealed_store",
    "Refill": "helora_core.parties.refill",
    "Server": "helora_core.parties.server",
    "ServerLimits": "helora_core.parties.limits",
    "Store": "helora_core.parties.store",
    "Write": "helora_core.parties.store",
    "check_budget": "helora_core.compiler.cost",
    "choose_params": "helora_core.params.choose",
    "compile": "helora_core.parties.compile",
    "compile_plan": "helora_core.compiler.compile",
    "get_manager": "helora_core.host.manager",
    "load_adapter": "helora_core.adapter.load",
    "open_sessions": "helora_core.backend.session",
    "restore_client": "helora_core.backend.key_export",
    "run_adapter": "helora_core.parties.adapter_run",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
