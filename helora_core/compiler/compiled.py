"""A module with the plan that it was compiled to, as an artifact stores it and a server serves it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol, TypeAlias

import msgspec

from helora_core.adapter.lora import LoRAModule, ModuleShape
from helora_core.compiler.plan import Plan
from helora_core.errors import InvalidInput
from helora_core.packing.protocol import Vector


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of the adapter's modules, whose Δ is ``d_out`` wide; several on one input are compiled together."""

    name: str
    d_out: int


def split(delta: Vector, parts: Sequence[Part]) -> dict[str, Vector]:
    """Δ of each part by its name, from the Δ of all, of shape (tokens, the sum of all d_out)."""
    ends = accumulate(part.d_out for part in parts)
    return {part.name: delta[:, end - part.d_out : end] for part, end in zip(parts, ends, strict=True)}


class StoredModule(Protocol):
    """A module whose plaintexts are stored, and whose matrices are not available."""

    @property
    def name(self) -> str:
        """The module's name."""
        ...

    @property
    def shape(self) -> ModuleShape:
        """The module's shape."""
        ...

    @property
    def exponent(self) -> int:
        """The module's exponent: Δ is 2^exponent times what the program computes with the plaintexts."""
        ...

    def vectors(self, plan: Plan) -> Iterator[tuple[str, Vector]]:
        """The stored result of ``plan.layout.constants`` for the module."""
        ...


Weights: TypeAlias = LoRAModule | StoredModule
"""The weights that a server computes with: an adapter's module, or the plaintexts made from one."""


@dataclass(frozen=True)
class CompiledModule:
    """One module with its plan. A module with plans for several numbers of tokens is one of these for each plan.

    Attributes:
        module: Its weights.
        parts: Names and output widths of the adapter's modules that it was made of, in the order of their outputs.
        plan: The plan to run it with; it has the module's exponent.
    """

    module: Weights
    parts: tuple[Part, ...]
    plan: Plan

    @property
    def name(self) -> str:
        """Its name; of several on one input, that of their stack."""
        return self.module.name

    def __repr__(self) -> str:
        return f"<{self.name} {self.plan.shape} by {self.plan.packing.name}, plan {self.plan.digest[:12]}>"


def by_name(modules: Iterable[CompiledModule]) -> dict[str, tuple[CompiledModule, ...]]:
    """Compiled modules by their names, each with all of its plans, in their order."""
    found: dict[str, tuple[CompiledModule, ...]] = {}
    for each in modules:
        found[each.name] = (*found.get(each.name, ()), each)
    return found


def cheapest_for(plans: Iterable[Plan], tokens: int) -> Plan:
    """The cheapest plan for so many tokens, by executions times their cost, or by the fewest executions."""
    return min(plans, key=lambda plan: (plan.runs(tokens) * plan.run_cost, plan.runs(tokens)))


def require_one_input(plans: Mapping[str, Plan]) -> None:
    """Check that modules take the same ciphertexts.

    Args:
        plans: Their plans, by their names; one or more.

    Raises:
        InvalidInput: The plans' input signatures or numbers of rounds differ.
    """
    (first, plan), *others = plans.items()
    for name, other in others:
        alike = other.digest == plan.digest or (
            other.input_signature == plan.input_signature and other.correlation == plan.correlation
        )
        if not alike or len(other.rounds) != len(plan.rounds):
            raise InvalidInput(
                f"Modules {first} and {name} do not take the same ciphertexts.",
                hint="Ask for them one by one, or compile them with one packing and one shape.",
            )
