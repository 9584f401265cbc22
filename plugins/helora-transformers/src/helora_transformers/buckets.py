"""Compiles an adapter for the numbers of tokens that a language model asks for: plans of one key set, within memory.

A plan is for a number of tokens: one sequence that decodes, several, a prompt. Plans compiled together have equal
parameters and share keys, and a request takes the cheapest. Plans for many tokens have many plaintexts, which the
server holds encoded; so the largest bucket is what a budget of memory allows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from helora_core.adapter.lora import LoRAAdapter
from helora_core.errors import HeloraError
from helora_core.execution.constants import plaintext_bytes
from helora_core.parties.compile import compile
from helora_core.parties.compiled_lora import CompiledLoRA

DEFAULT_BUCKETS = (1, 16, 64)
"""A sequence that decodes, several of them or a short prompt, a long prompt."""

DEFAULT_WEIGHT_BYTES = 2 << 30
"""Bytes of encoded weights that the server of the plans may hold: 2 GiB."""


def weight_bytes(lora: CompiledLoRA) -> int:
    """Bytes of all weights, encoded for all plans."""
    return sum(
        plaintext_bytes(spec, each.plan.params.ring_degree)
        for each in lora.modules
        for spec in each.plan.constant_specs.values()
    )


def compiled_in_buckets(
    adapter: LoRAAdapter, *, buckets: Sequence[int] | None = None, most_bytes: int = DEFAULT_WEIGHT_BYTES, **wishes: Any
) -> CompiledLoRA:
    """The adapter, compiled for several numbers of tokens at once.

    Args:
        adapter: The adapter.
        buckets: The numbers. If None, as many of 1, 16 and 64 as keep encoded weights within ``most_bytes``.
        most_bytes: Bytes of encoded weights, if ``buckets`` is None.
        wishes: Further arguments of ``helora_core.compile``.

    Raises:
        HeloraError: As ``compile`` raises it; for the smallest bucket alone if ``buckets`` is None.
    """
    if buckets is not None:
        return compile(adapter, tokens=tuple(buckets), **wishes)
    for count in range(len(DEFAULT_BUCKETS), 1, -1):
        try:
            lora = compile(adapter, tokens=DEFAULT_BUCKETS[:count], **wishes)
        except HeloraError:
            continue  # no common parameters, or over a budget: fewer buckets may do
        if weight_bytes(lora) <= most_bytes:
            return lora
    return compile(adapter, tokens=DEFAULT_BUCKETS[0], **wishes)
