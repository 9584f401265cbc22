"""What one encrypted input for several modules saves, compared with an input for each of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec

from helora_core.compiler.cost import NO_BUDGET
from helora_core.compiler.plan import Plan
from helora_core.compiler.plan_cache import PlanCache
from helora_core.compiler.request import PlanRequest


class PerToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token's costs at the client and at the server; tokens that run together share them.

    Attributes:
        encrypts: Ciphertexts that the client encrypts and sends.
        bytes_up: Bytes of those ciphertexts.
        decrypts: Ciphertexts that it receives and decrypts.
        rotations, keyswitches: The server's operations.
    """

    encrypts: float
    bytes_up: float
    decrypts: float
    rotations: float
    keyswitches: float

    @classmethod
    def of(cls, plan: Plan, tokens: int | None) -> PerToken:
        """The costs of a plan that runs so many tokens; of one full run if None."""
        tokens = plan.tokens_per_run if tokens is None else tokens
        share = plan.runs(tokens) / tokens
        return cls(
            encrypts=plan.counts.encrypts * share,
            bytes_up=plan.bytes_for(tokens).up / tokens,
            decrypts=plan.counts.decrypts * share,
            rotations=plan.counts.rotations * share,
            keyswitches=plan.counts.keyswitches * share,
        )


class SharedInput(msgspec.Struct, frozen=True, kw_only=True):
    """One input for several modules, per token.

    Attributes:
        modules: The number of modules that take it.
        tokens: Tokens that run together; None for full runs of each plan.
        together: The costs of a token.
        separately: Its costs with a plan and an input for each module.
    """

    modules: int
    tokens: int | None
    together: PerToken
    separately: PerToken

    @property
    def encrypts_saved(self) -> float:
        """Encryptions, and so ciphertexts up, saved per token; negative if the modules need fewer on their own."""
        return self.separately.encrypts - self.together.encrypts

    @property
    def bytes_up_saved(self) -> float:
        """Bytes of upload saved per token."""
        return self.separately.bytes_up - self.together.bytes_up

    def to_dict(self) -> dict[str, Any]:
        """As JSON-ready data; the keys are documented in docs/cli.md."""
        alone = self.separately
        return {
            "separately": {f"{name}_per_token": getattr(alone, name) for name in PerToken.__struct_fields__},
            "saved": {
                "ciphertexts_up_per_token": self.encrypts_saved,
                "encryptions_per_token": self.encrypts_saved,
                "bytes_up_per_token": self.bytes_up_saved,
            },
        }


def shared_input(plan: Plan, tokens: int | None, alone: Sequence[PlanRequest], cache: PlanCache) -> SharedInput:
    """The savings of a plan for several modules of one input.

    Args:
        plan: The plan of the modules as one.
        tokens: Tokens that run together; None for full runs.
        alone: The request for each module on its own, which no budget applies to.
        cache: Compiles the requests.
    """
    plans: list[Plan] = []
    for request in alone:
        asked = replace(request.within(budget=NO_BUDGET), tokens=() if tokens is None else (tokens,))
        plans += cache.plans(asked)
    each = [PerToken.of(part, tokens) for part in plans]
    sums = {name: sum(getattr(part, name) for part in each) for name in PerToken.__struct_fields__}
    return SharedInput(
        modules=len(plans), tokens=tokens, together=PerToken.of(plan, tokens), separately=PerToken(**sums)
    )
