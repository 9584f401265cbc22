"""Rounds between server and client: masks, the client's answer to masked values, and taking the masks off again.

Masks are integers modulo the base prime q₀. What comes back is modulo Q = q₀·q₁, so that whatever wrapped around
modulo q₀ is a multiple of Q and vanishes: ``helora_core.packing.cheetah_two_round`` gives the mathematics.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from helora_core.backend.capabilities import Encoding
from helora_core.backend.protocol import Ciphertext
from helora_core.backend.session import ClientSession, ServerSession
from helora_core.compiler.checks import ANSWER_SPARE_BITS
from helora_core.compiler.ir import UNMASK_PARTS, Op, OpKind
from helora_core.compiler.plan import Plan
from helora_core.errors import InvalidProgram
from helora_core.packing.protocol import Interactive
from helora_core.params.ckks import CKKSParams
from helora_core.runtime.reference import negacyclic_product

Integers = NDArray[np.int64]

_FLOAT64_BITS = 53


def decrypt_integers(plan: Plan, client: ClientSession, received: Sequence[Ciphertext]) -> list[Integers]:
    """The masked coefficients that the client reads, as integers 0 ≤ m < q₀, of each ciphertext."""
    scale, base = _integer_scale(plan, client.params), client.params.data_primes[0]
    return [
        np.rint(client.decrypt(ciphertext, encoding=Encoding.COEFFICIENTS) * scale).astype(np.int64) % base
        for ciphertext in received
    ]


def encrypt_answer(plan: Plan, client: ClientSession, integers: list[Integers]) -> Ciphertext:
    """What the client sends for them: picked and placed by the layout, as multiples of the upper primes."""
    answer = centred(interactive(plan).answer(integers), client.params.data_primes[0])
    values = answer / _integer_scale(plan, client.params)
    return client.encrypt(values, scale_bits=_answer_bits(plan), encoding=Encoding.COEFFICIENTS)


def _answer_bits(plan: Plan) -> int:
    """log2 of the scale of the client's answer."""
    asked = next(i for i, op in enumerate(plan.program.ops) if op.kind is OpKind.ASK_CLIENT)
    return plan.values[asked].scale_bits


def _integer_scale(plan: Plan, params: CKKSParams) -> float:
    """The exact scale of the masked values, of which the answer's is a multiple by the upper primes, over two."""
    return 2.0 ** (_answer_bits(plan) + ANSWER_SPARE_BITS) / math.prod(params.data_primes[1:])


class Masks:
    """The masks of one execution of a program: the server's secret."""

    def __init__(self, plan: Plan, server: ServerSession) -> None:
        self._plan = plan
        self._server = server
        self._masks: dict[str, Integers] = {}

    def hide(self, name: str, ciphertext: Ciphertext) -> Ciphertext:
        """Mask a value at level 0, and remember the mask under this name."""
        hidden, self._masks[name] = self._server.uniform_mask(ciphertext)
        return hidden

    def take_off(self, op: Op, ciphertext: Ciphertext, factor: Integers) -> Ciphertext:
        """Subtract the product of ``factor``, integers on the grid of the plaintext, and the answer to the masks.

        In parts, because no encoder takes integers up to half the modulus. Parts are doubles: what they lose is 2^-50
        of the modulus, less than the noise of any ciphertext that is worth decrypting.
        """
        params, evaluator = self._server.params, self._server.evaluator
        base, level = params.data_primes[0], evaluator.level(ciphertext)
        answer = interactive(self._plan).answer([self._masks[name] for name in op.constants])
        remaining = centred(negacyclic_modulo(factor, answer, base, params.ring_degree), base)
        value = self._plan.values[op.args[0]]
        unit = math.prod(params.data_primes[1:]) / 2.0**value.scale_bits
        for part in range(UNMASK_PARTS, 0, -1):
            share = remaining // part
            remaining = remaining - share
            plaintext = self._server.encode(
                -share * unit, level=level, scale_bits=value.scale_bits, encoding=Encoding.COEFFICIENTS
            )
            ciphertext = evaluator.add_plain(ciphertext, plaintext)
        return ciphertext


def interactive(plan: Plan) -> Interactive:
    """The plan's layout, as one that says what the client answers.

    Raises:
        InvalidProgram: It does not.
    """
    if not isinstance(plan.layout, Interactive):
        raise InvalidProgram(
            f"Packing {plan.packing.name} asks the client and does not say what she answers.",
            hint="Give its layout a method `answer`, as helora_core.packing.protocol.Interactive has.",
        )
    return plan.layout


def centred(integers: Integers, modulus: int) -> Integers:
    """Residues in 0..modulus-1 as the ones of least size."""
    return np.where(integers > modulus // 2, integers - modulus, integers)


def negacyclic_modulo(factor: Integers, residues: Integers, modulus: int, ring_degree: int) -> Integers:
    """The exact product of two polynomials modulo x^N + 1 and an integer below 2^46; both are padded to N.

    The residues are cut into limbs so short that a product by a transform in doubles is off by less than a half: its
    error is below 2^-53 · 8·log2(N) times the product of the norms.
    """
    wide = np.zeros(ring_degree, dtype=np.int64)
    wide[: residues.size] = residues
    padded = np.zeros(ring_degree)
    padded[: factor.size] = factor
    norm = max(1.0, float(np.linalg.norm(padded))) * math.sqrt(ring_degree)
    spare = _FLOAT64_BITS - 2 - math.log2(8 * math.log2(ring_degree) * norm)
    limb_bits = max(1, min(16, math.floor(spare)))
    product = np.zeros(ring_degree, dtype=np.int64)
    for shift in range((modulus.bit_length() - 1) // limb_bits * limb_bits, -1, -limb_bits):
        limb = (wide >> shift) & ((1 << limb_bits) - 1)
        term = np.rint(negacyclic_product(padded, limb.astype(np.float64))).astype(np.int64)
        product = ((product << limb_bits) + term) % modulus
    return product
