"""Several compiled adapters for one server: names that tell them apart, one backend, one promise about weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import msgspec

from helora_core.backend.protocol import Backend
from helora_core.compiler.compiled import CompiledModule
from helora_core.errors import InvalidInput
from helora_core.parties.compiled_lora import CompiledLoRA
from helora_core.privacy.leakage import Assumption

Versions: TypeAlias = CompiledModule | Sequence[CompiledModule]
"""A module by one plan, or by each of several."""


def sorted_out(
    served: CompiledLoRA | Mapping[str, CompiledLoRA] | Mapping[str, Versions],
) -> tuple[list[CompiledLoRA], dict[str, Versions]]:
    """The compiled adapters, if there are any; and the modules to serve, by name.

    Raises:
        InvalidInput: An adapter's name is empty or has forbidden characters; or adapters and modules are mixed.
    """
    if isinstance(served, CompiledLoRA):
        return [served], dict(served.by_name)
    loras = {name: each for name, each in served.items() if isinstance(each, CompiledLoRA)}
    if not loras:
        return [], {name: each for name, each in served.items() if not isinstance(each, CompiledLoRA)}
    if len(loras) < len(served):
        raise InvalidInput(
            "Server: compiled adapters and single modules were given together.",
            hint="Give adapters by their names, or modules by theirs.",
        )
    modules: dict[str, Versions] = {}
    for name, lora in loras.items():
        if not name or "/" in name or not name.isprintable():
            raise InvalidInput(
                f"Server: {name!r} cannot name an adapter.", hint="Use printable text without a slash, such as legal."
            )
        for own, versions in lora.by_name.items():
            modules[f"{name}/{own}"] = tuple(_within(name, each) for each in versions)
    return list(loras.values()), modules


def _within(adapter: str, compiled: CompiledModule) -> CompiledModule:
    parts = tuple(msgspec.structs.replace(part, name=f"{adapter}/{part.name}") for part in compiled.parts)
    return CompiledModule(compiled.module, parts, compiled.plan)


def one_backend(loras: Sequence[CompiledLoRA]) -> Backend:
    """The backend that all adapters were compiled for.

    Raises:
        InvalidInput: There is none, or there are several.
    """
    names = sorted({each.backend.name for each in loras})
    if len(names) != 1:
        raise InvalidInput(
            f"Server: the adapters were compiled for different backends: {', '.join(names)}."
            if names
            else "Server: modules were given without a backend.",
            hint="Compile all adapters for one backend (backend=…), or serve each with its own server."
            if names
            else "Give the backend that they were compiled for.",
        )
    return loras[0].backend


def one_promise(loras: Sequence[CompiledLoRA]) -> bool:
    """Whether weights are kept private from the key holder.

    Raises:
        InvalidInput: Some adapters keep theirs private and others do not.
    """
    promises = {each.private_weights for each in loras}
    if len(promises) > 1:
        raise InvalidInput(
            "Server: some adapters keep their weights private from the key holder, and others do not.",
            hint="Serve each with its own server, or compile all with private weights.",
        )
    return promises != {False}


def accepted_by_all(loras: Sequence[CompiledLoRA]) -> frozenset[Assumption]:
    """The assumptions that every adapter was compiled with."""
    accepted = [frozenset(each.assume) for each in loras]
    return accepted[0].intersection(*accepted[1:]) if accepted else frozenset()
