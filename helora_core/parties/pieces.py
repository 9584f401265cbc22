"""A preparation's messages: what goes up in pieces, one after another, and what is fetched in pieces.

A batch for one input begins with the client's nonce, which the server answers with its own. Then come the client's
ciphertexts, so many features a message, the first with its public key; and then the client asks for the results, so
many outputs a message, module by module. Both sides work out the pieces from the plan, so that none states them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from helora_core.compiler.plan import Plan
from helora_core.execution.modular import online_of

PIECE_BYTES = 4 << 20
"""What a piece has at most, unless a single feature or output has more. An event loop copies a message of so many bytes
some times over; smaller ones make the sums slower."""


class Piece(NamedTuple):
    """One message with features of the input, or one for outputs of a module.

    Attributes:
        module: Index of the module; 0 for features.
        start, end: The features, or the outputs.
    """

    module: int
    start: int
    end: int


def upload_pieces(plan: Plan) -> tuple[Piece, ...]:
    """The messages that take the ciphertexts up."""
    params = plan.params
    return tuple(_pieces(0, online_of(plan).inputs, params.ring_degree * params.data_modulus_bits // 8))


def result_pieces(plans: Sequence[Plan]) -> tuple[Piece, ...]:
    """The messages that fetch the results of each module."""
    pieces: list[Piece] = []
    for i, plan in enumerate(plans):
        online = online_of(plan)
        bits = online.how.top_bits + online.how.key_bits + (plan.params.data_bits[0] * 2 if online.how.exact else 0)
        pieces += _pieces(i, online.outputs, plan.params.ring_degree * bits // 8)
    return tuple(pieces)


def _pieces(module: int, count: int, bytes_each: int) -> list[Piece]:
    size = max(1, PIECE_BYTES // bytes_each)
    return [Piece(module, start, min(count, start + size)) for start in range(0, count, size)]
