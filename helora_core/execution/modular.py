"""Online rounds of what was prepared: exact arithmetic modulo the lower primes, on masked values in the clear.

With W the integers U·D of a module's weights, everything modulo t, the product of the lower primes: ahead of time the
client draws r and gets c = W·r + e + s, of the noise e and the server's uniform s. Online it sends y = 2^g·x″ − r, the
server answers v = W·y − s, and v + c = 2^g·W·x″ + e. Rounded to multiples of 2^g this is 2^g·W·x″ exactly
(``helora_core.compiler.grid``). y is uniform whatever x is, and v whatever W is; each r and s serves once.

Arrays of residues are uint64, shape (lower primes, tokens, numbers).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from helora_core.adapter.lora import LoRAModule
from helora_core.backend import ntt, residues
from helora_core.backend.ntt import Residues
from helora_core.compiler.compiled import Weights
from helora_core.compiler.grid import Correlation, numbers_on_grid, read_places
from helora_core.compiler.plan import Plan
from helora_core.errors import CorruptPayload, InvalidProgram
from helora_core.packing.protocol import Correlated, Vector
from helora_core.params.ckks import CKKSParams

SEED_BYTES = 32

_BLOCK = 16
"""Rows that are drawn at a time: a call costs as much as some hundred bytes."""

Factors = tuple[NDArray[np.int64], ...]
"""Integer matrices, applied one after the other."""


def correlation(plan: Plan) -> Correlation:
    """What the plan's correlations are.

    Raises:
        InvalidProgram: It makes none, or its layout does not say by which matrices.
    """
    if plan.correlation is None or not isinstance(plan.layout, Correlated):
        raise InvalidProgram(
            f"Packing {plan.packing.name} does not say what is done online with what it makes ahead of time.",
            hint="Give its layout a method `factors`, as helora_core.packing.protocol.Correlated has.",
        )
    return plan.correlation


def drawn(seed: bytes, rows: Iterable[int], primes: Sequence[int], count: int) -> Residues:
    """Residues uniform modulo each prime as far as SHAKE-256 is random: shape (primes, rows, count).

    A row depends on the seed and its number alone. Words beyond the last multiple of a prime are drawn again.

    Args:
        seed: Secret, ``SEED_BYTES`` long.
        rows: Their numbers.
        primes: Below 2^61.
        count: Numbers a row.
    """
    numbers = np.array(list(rows), dtype=np.int64)
    blocks, at = np.unique(numbers // _BLOCK, return_inverse=True)
    names = [seed + block.to_bytes(8, "big") for block in blocks.tolist()]
    places = at * _BLOCK + numbers % _BLOCK
    drawn = [_modulo(names, i, prime, _BLOCK * count).reshape(-1, count) for i, prime in enumerate(primes)]
    return np.stack([each[places] for each in drawn])


def _modulo(names: Sequence[bytes], i: int, prime: int, count: int) -> Residues:
    limit = np.uint64((1 << 64) // prime * prime - 1)
    words = _words(names, i, 0, count)
    attempt = 0
    while (beyond := words > limit).any():
        attempt += 1
        again = np.flatnonzero(beyond.any(axis=1)).tolist()
        fresh = _words([names[row] for row in again], i, attempt, count)
        words[again] = np.where(beyond[again], fresh, words[again])
    reduced: Residues = words % np.uint64(prime)
    return reduced


def _words(names: Sequence[bytes], i: int, attempt: int, count: int) -> Residues:
    suffix = i.to_bytes(4, "big") + attempt.to_bytes(4, "big")
    stream = b"".join(hashlib.shake_256(name + suffix).digest(8 * count) for name in names)
    return np.frombuffer(stream, dtype="<u8").astype(np.uint64).reshape(len(names), count)


def child(seed: bytes, *names: bytes) -> bytes:
    """A seed of its own for each sequence of names."""
    digest = hashlib.sha256(seed)
    for name in names:
        digest.update(len(name).to_bytes(8, "big") + name)
    return digest.digest()


def encryptable(r: Residues, lower: int, params: CKKSParams) -> list[Residues]:
    """For each input the coefficients to encrypt: of token k at place k, times the upper primes; modulo all primes.

    Args:
        r: What was drawn: shape (lower, tokens, inputs).
        lower: How many primes are the lower ones.
        params: Resolved.
    """
    primes, upper = params.data_primes[:lower], math.prod(params.data_primes[lower:])
    _, tokens, inputs = r.shape
    placed = np.zeros((inputs, len(params.data_primes), params.ring_degree), dtype=np.uint64)
    for i, prime in enumerate(primes):
        # Modulo the upper primes themselves, what is times them is zero.
        placed[:, i, :tokens] = ntt.times(r[i].T, upper, prime)
    return list(placed)


def masked_input(plan: Plan, x: Vector, r: Residues, params: CKKSParams) -> Residues:
    """y, of activations (tokens, d_in) with ‖x‖₂ ≤ 1 each."""
    found = correlation(plan)
    integers = np.rint(np.ldexp(np.stack(plan.pack(x), axis=1), found.grid.x_bits)).astype(np.int64)
    y = np.empty_like(r)
    for i, prime in enumerate(params.data_primes[: found.lower]):
        shifted = ntt.times((integers % prime).astype(np.uint64), 1 << found.guard_bits, prime)
        y[i] = _difference(shifted, r[i], prime)
    return y


def integer_factors(plan: Plan, module: Weights) -> Factors:
    """A module's weights as the integers of the plan's program, as far as it reads and writes them."""
    correlation(plan)
    assert isinstance(plan.layout, Correlated)
    vectors = plan.layout.constants(plan.normalized(module)) if isinstance(module, LoRAModule) else module.vectors(plan)
    specs, places = plan.constant_specs, read_places(plan.program)
    numbers = {
        name: numbers_on_grid(vector, specs[name].scale_bits, places[name]) if name in places else vector
        for name, vector in vectors
    }
    matrices = plan.layout.factors(numbers)
    factors = [np.rint(np.ldexp(matrix, plan.scales.of(role))).astype(np.int64) for role, matrix in matrices]
    factors[0] = factors[0][:, list(plan.program.input_positions)]
    factors[-1] = factors[-1][[output is not None for output in plan.program.outputs]]
    return tuple(factors)


def fingerprint_of(factors: Factors) -> bytes:
    """SHA-256 of the weights: correlations of others must not be used with them."""
    digest = hashlib.sha256()
    for factor in factors:
        digest.update(repr(factor.shape).encode() + factor.astype("<i8").tobytes())
    return digest.digest()


def answered(factors: Factors, y: Residues, s: Residues, primes: Sequence[int]) -> Residues:
    """v = W·y − s."""
    v = np.empty_like(s)
    for i, prime in enumerate(primes):
        value = y[i]
        for factor in factors:
            value = _product(value, factor, prime)
        v[i] = _difference(value, s[i], prime)
    return v


def read(plan: Plan, v: Residues, c: Residues, params: CKKSParams) -> Vector:
    """Δ, float64, shape (tokens, d_out): the integers of v + c above the guard, over the grid."""
    found = correlation(plan)
    primes = params.data_primes[: found.lower]
    total = np.stack([(v[i] + c[i]) % np.uint64(prime) for i, prime in enumerate(primes)])
    _, tokens, outputs = total.shape
    integers = np.rint(residues.values_of(total.reshape(len(primes), -1), primes, 2.0**found.guard_bits))
    values = np.ldexp(integers.reshape(tokens, outputs), -found.grid.bits)
    return plan.unpack(list(values.T), tokens)


def to_bytes(numbers: Residues) -> bytes:
    """Residues as bytes, little-endian."""
    return numbers.astype("<u8").tobytes()


def from_bytes(data: bytes, primes: Sequence[int], tokens: int, count: int) -> Residues:
    """Residues out of a message.

    Raises:
        CorruptPayload: They are not so many, or not below the primes.
    """
    if len(data) == 8 * len(primes) * tokens * count:
        numbers = np.frombuffer(data, dtype="<u8").astype(np.uint64).reshape(len(primes), tokens, count)
        if all((rows < np.uint64(prime)).all() for rows, prime in zip(numbers, primes, strict=True)):
            return numbers
    raise CorruptPayload(
        f"The message holds other numbers than those of {tokens} tokens.",
        hint="Use the same version of helora on both sides.",
    )


def _difference(left: Residues, right: Residues, prime: int) -> Residues:
    difference: Residues = (left + (np.uint64(prime) - right)) % np.uint64(prime)
    return difference


def _product(values: Residues, matrix: NDArray[np.int64], prime: int) -> Residues:
    """values·matrixᵀ modulo a prime, by as many limbs of the values as make sums of products fit 63 bits."""
    largest = int(np.abs(matrix).max(initial=1))
    bits = 62 - (largest * matrix.shape[1]).bit_length()
    if bits < 1:
        raise InvalidProgram("Weights too large for sums in 63 bits.", hint="Use a coarser grid of weights.")
    total = np.zeros((values.shape[0], matrix.shape[0]), dtype=np.uint64)
    for shift in range(0, prime.bit_length(), bits):
        limb = (values >> np.uint64(shift) & np.uint64((1 << bits) - 1)).astype(np.int64)
        part = ((limb @ matrix.T) % prime).astype(np.uint64)
        total = (total + ntt.times(part, 1 << shift, prime)) % np.uint64(prime)
    return total
