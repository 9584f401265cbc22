"""Module names from the keys of a state dict, without the wrappers that training tools put around modules.

PEFT names every tensor ``base_model.model.<module>.lora_A.weight`` and looks its patterns up by ``<module>``. Compilers
and distributed trainers wrap modules in others, whose names then appear before PEFT's prefix, inside it, or anywhere
after it. If they were taken for parts of the module's name, other patterns could match, which would change α.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

KEY_PREFIX = "base_model.model."

# FSDP (PyTorch's and FairScale's), activation checkpointing and Lightning Fabric wrap the model that PEFT has made, so
# PEFT never saw these names.
_AFTER_PEFT = frozenset({"_fsdp_wrapped_module", "_fpw_module", "_checkpoint_wrapped_module", "_forward_module"})

# torch.compile and Opacus: before or after PEFT.
_EITHER = frozenset({"_orig_mod", "_module"})

_WRAPPERS = _AFTER_PEFT | _EITHER

# DistributedDataParallel and DeepSpeed. Models have attributes of this name too, so it is a wrapper only in front.
_IN_FRONT = _WRAPPERS | {"module"}

_MOST_NESTED = 4

# Leading parts that a name may lack if the tool that removed PEFT's prefix removed more than the prefix.
_USUAL_FRONTS = ("model", "transformer", "language_model", "model.language_model", "language_model.model")


@dataclass(frozen=True)
class ModuleName:
    """A module's name, and how sure it is that PEFT knew the module by it.

    Attributes:
        shown: The name without wrappers.
        others: Names that PEFT may have known it by instead. A look-up by any of them must give the same.
        outer: The parts before PEFT's prefix other than wrappers: the name of PEFT's model inside a larger one, or ""
            for none; None if there is no such prefix.
    """

    shown: str
    others: tuple[str, ...]
    outer: str | None


def module_name(key: str) -> ModuleName:
    """The name of a module from ``key``, a state dict's key without ``.lora_A.weight``."""
    parts = _unwrapped_front(key.split("."))
    found = _after_prefix(parts)
    if found is None:
        shown = _shown(parts)
        return ModuleName(shown, tuple(f"{front}.{shown}" for front in _USUAL_FRONTS), None)
    start, rest = found
    outer = ".".join(part for part in parts[:start] if part not in _WRAPPERS)
    shown = _shown(rest)
    others = [".".join(part for part in rest if part not in _AFTER_PEFT) or shown]
    for _ in range(_MOST_NESTED):  # PEFT's model inside another of PEFT's
        nested = _after_prefix(_unwrapped_front(rest))
        if nested is None:
            break
        rest = nested[1]
        others.append(_shown(rest))
    return ModuleName(shown, tuple(dict.fromkeys(name for name in others if name != shown)), outer)


def without_wrappers(parts: Sequence[str]) -> list[str]:
    """The components of a key's ending, without wrappers."""
    return [part for part in parts if part not in _WRAPPERS]


def _unwrapped_front(parts: Sequence[str]) -> list[str]:
    start = 0
    while start < len(parts) - 1 and parts[start] in _IN_FRONT:
        start += 1
    return list(parts[start:])


def _after_prefix(parts: list[str]) -> tuple[int, list[str]] | None:
    """Where the first prefix of PEFT begins, and the parts that follow it; None if no prefix has parts after it."""
    for start, part in enumerate(parts):
        if part != "base_model":
            continue
        middle = start + 1
        while middle < len(parts) and parts[middle] in _IN_FRONT:
            middle += 1
        if middle < len(parts) - 1 and parts[middle] == "model":
            return start, parts[middle + 1 :]
    return None


def _shown(parts: Sequence[str]) -> str:
    front = _unwrapped_front(parts)
    return ".".join([*(part for part in front[:-1] if part not in _WRAPPERS), front[-1]])
