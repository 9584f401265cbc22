"""Rounds between server and client: masks, the client's answer to masked values, and the removal of the masks.

Masks are uniform modulo the product Q' of the lower primes. The answer comes back modulo Q = Q'·q, where anything that
wrapped around modulo Q' is a multiple of Q and vanishes; ``helora_core.packing.cheetah_two_round`` gives the
mathematics. Everything here is exact: the client would know its own rounding error, and the result would show it
multiplied by the weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from helora_core.backend import residues
from helora_core.backend.capabilities import Encoding
from helora_core.backend.ntt import Residues
from helora_core.backend.protocol import Ciphertext
from helora_core.backend.session import ClientSession, ServerSession
from helora_core.compiler.ir import Op
from helora_core.compiler.plan import Plan
from helora_core.errors import InvalidProgram
from helora_core.packing.protocol import Interactive
from helora_core.params.ckks import CKKSParams


def encrypt_answer(plan: Plan, number: int, client: ClientSession, received: Sequence[Residues]) -> Ciphertext:
    """Encrypt the client's answer to masked values: picked and placed by the layout, times the upper primes.

    Args:
        plan: The plan.
        number: The number of the round that the answer is for.
        client: The session that holds the key.
        received: The decrypted residues of each value: uint64, shape (lower primes, N).
    """
    (asked,) = plan.rounds[number].inputs
    answer = _placed(plan, received, client.params)
    return client.encrypt(answer, scale_bits=plan.values[asked].scale_bits, encoding=Encoding.INTEGERS)


def _placed(plan: Plan, values: Sequence[Residues], params: CKKSParams) -> Residues:
    """The layout's answer to values, times the upper primes, modulo all: residues of shape (data primes, N)."""
    layout, lower = interactive(plan), len(values[0])
    primes, upper = params.data_primes[:lower], math.prod(params.data_primes[lower:])
    answer = np.zeros((len(params.data_primes), params.ring_degree), dtype=np.uint64)
    for i in range(lower):
        placed = layout.answer([value[i] for value in values])
        answer[i, : placed.size] = placed
    # Modulo the upper primes themselves, a multiple of them is zero.
    answer[:lower] = residues.times(answer[:lower], upper, primes)
    return answer


class Masks:
    """The masks of one execution of a plan: the server's secret, from the round that draws them to the one that
    removes them.

    Args:
        plan: The plan.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._masks: dict[str, Residues] = {}

    @property
    def bytes_held(self) -> int:
        """Bytes of the masks."""
        return sum(mask.nbytes for mask in self._masks.values())

    def hide(self, server: ServerSession, name: str, ciphertext: Ciphertext) -> Ciphertext:
        """Mask a value, and keep the mask under this name."""
        hidden, self._masks[name] = server.uniform_mask(ciphertext)
        return hidden

    def take_off(self, server: ServerSession, op: Op, ciphertext: Ciphertext) -> Ciphertext:
        """Remove masks from the client's answer: subtract the answer that the client would give to them alone."""
        params = server.params
        placed = _placed(self._plan, [self._masks[name] for name in op.constants], params)
        plaintext = server.encoder.encode(
            residues.negative(placed, params.data_primes),
            level=server.evaluator.level(ciphertext),
            scale_bits=self._plan.values[op.args[0]].scale_bits,
            encoding=Encoding.INTEGERS,
        )
        return server.evaluator.add_plain(ciphertext, plaintext)


def interactive(plan: Plan) -> Interactive:
    """The plan's layout as an ``Interactive`` one, which computes the client's answer.

    Raises:
        InvalidProgram: The layout is not interactive.
    """
    if not isinstance(plan.layout, Interactive):
        raise InvalidProgram(
            f"Packing {plan.packing.name} asks the client but does not say what the client answers.",
            hint="Give its layout a method `answer`, as helora_core.packing.protocol.Interactive has.",
        )
    return plan.layout
