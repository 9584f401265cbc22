"""The costs of a plan by phase: ahead of time on random numbers, and online on activations.

Sizes are of numbers packed to their bits; messages add some hundred bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from helora_core.adapter.lora import ModuleShape
from helora_core.compiler.grid import Correlation
from helora_core.compiler.ir import Program
from helora_core.compiler.rounds import Phase, Round, counts_of
from helora_core.params.ckks import WRAP_BITS, CKKSParams


class Traffic(NamedTuple):
    """Bytes up and down."""

    up: int
    down: int


def online_bytes(program: Program, correlation: Correlation, tokens: int) -> Traffic:
    """What goes over the wire for so many tokens once they are there: y as words, and the top bits of answers."""
    bits = correlation.answer_bits
    return Traffic(len(program.inputs) * tokens * WRAP_BITS // 8, _packed(len(program.results) * tokens, bits))


def ahead_bytes(program: Program, correlation: Correlation, params: CKKSParams) -> Traffic:
    """What goes over the wire for a batch: one polynomial an input, whose other one is a seed; two a result.

    In exact mode results hold what is left of both modulo the first prime as well.
    """
    how, n = correlation.how, params.ring_degree
    result = how.top_bits + how.key_bits + (2 * params.data_bits[0] if how.exact else 0)
    return Traffic(_packed(len(program.inputs) * n, params.modulus_bits), _packed(len(program.results) * n, result))


def kept_bytes(program: Program, correlation: Correlation) -> int:
    """What a client keeps for a token until it is used. The server keeps a seed a batch."""
    return _packed(len(program.results), correlation.how.top_bits)


def _packed(numbers: int, bits: int) -> int:
    return -(-numbers * bits // 8)


def phases(
    rounds: Sequence[Round], program: Program, shape: ModuleShape, correlation: Correlation, params: CKKSParams
) -> dict[str, Any]:
    """The costs of each phase, as JSON-ready data; the keys are documented in docs/cli.md."""
    ahead, token = ahead_bytes(program, correlation, params), online_bytes(program, correlation, 1)
    online = [turn for turn in rounds if turn.phase is Phase.ONLINE]
    tokens = params.ring_degree
    return {
        "offline": {
            "round_trips": len(rounds) - len(online),
            "correlations": tokens,
            **msgspec.structs.asdict(counts_of(rounds, Phase.OFFLINE)),
            "bytes_up_per_token": -(-ahead.up // tokens),
            "bytes_down_per_token": -(-ahead.down // tokens),
            "kept_bytes_per_token": kept_bytes(program, correlation),
            "distance_bits": correlation.distance_bits,
        },
        "online": {
            "round_trips": len(online),
            "bytes_up_per_token": token.up,
            "bytes_down_per_token": token.down,
            "multiplications_per_token": shape.rank * (shape.d_in + shape.d_out),
            "answer_bits": correlation.answer_bits,
        },
    }
