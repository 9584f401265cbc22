"""Ciphertexts and keys as bytes. Residues take as many bits as their prime has; every one is checked against it."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from helora_rns.kernels import Basis
from helora_rns.modular import Residues
from helora_rns.scheme import fields, sampling
from helora_rns.scheme.ciphertexts import Ciphertext, ShortCiphertext
from helora_rns.scheme.context import Context
from helora_rns.scheme.fields import Kind, Tag, corrupt
from helora_rns.scheme.keys import PublicKey, RotationKey

KEY_ID_BYTES = 16

_SCALE = struct.Struct("<d")


def _row_bytes(context: Context, basis: Basis) -> list[int]:
    return [-(-context.ring_degree * context.primes[i].bit_length() // 8) for i in basis]


def packed(context: Context, polynomials: Residues, basis: Basis) -> bytes:
    """Residues of any number of polynomials, (…, limbs, N), row after row."""
    rows = polynomials.reshape(-1, context.ring_degree)
    bits = [context.primes[i].bit_length() for i in basis] * (len(rows) // len(basis))
    return context.kernels.packed(rows, bits)


def unpacked(context: Context, payload: bytes, count: int, basis: Basis) -> Residues:
    """Undo ``packed``: (count, limbs, N).

    Raises:
        CorruptPayload: The length is not theirs, or a residue is not below its prime.
    """
    sizes = _row_bytes(context, basis)
    if len(payload) != count * sum(sizes):
        raise corrupt(f"{len(payload)} bytes are not {count} polynomials of {len(basis)} limbs")
    out = context.residues((count * len(basis), context.ring_degree))
    primes = [context.primes[i] for i in basis] * count
    bits, most = [prime.bit_length() for prime in primes], [prime - 1 for prime in primes]
    if not context.kernels.unpacked(payload, bits, most, out):
        raise corrupt("a residue is not below its prime")
    return out.reshape(count, len(basis), context.ring_degree)


def write_ciphertext(context: Context, ciphertext: Ciphertext | ShortCiphertext) -> bytes:
    """A ciphertext; a fresh one as one polynomial and a seed, a short one as the bits that are left of it."""
    if isinstance(ciphertext, ShortCiphertext):
        return _write_short(context, ciphertext)
    basis = context.basis(ciphertext.level)
    found = {Tag.LEVEL: bytes([ciphertext.level]), Tag.SCALE: _SCALE.pack(ciphertext.scale)}
    if ciphertext.seed is not None:
        found[Tag.SEED] = ciphertext.seed
        found[Tag.POLYNOMIALS] = packed(context, ciphertext.values[0], basis)
    else:
        found[Tag.POLYNOMIALS] = packed(context, ciphertext.values, basis)
    return fields.written(Kind.CIPHERTEXT, context, found)


def read_ciphertext(context: Context, payload: bytes) -> Ciphertext | ShortCiphertext:
    """Undo ``write_ciphertext``; raises what ``fields.read`` and ``unpacked`` do."""
    found = fields.read(Kind.CIPHERTEXT, context, payload)
    whole = frozenset({Tag.LEVEL, Tag.SCALE, Tag.POLYNOMIALS})
    fields.exactly(found, whole, whole | {Tag.SEED}, whole | {Tag.LOW_BITS})
    if Tag.LOW_BITS in found:
        return _read_short(context, found)
    level, scale = _level(context, found[Tag.LEVEL]), _scale(found[Tag.SCALE])
    basis, seed = context.basis(level), found.get(Tag.SEED)
    if seed is None:
        return Ciphertext(unpacked(context, found[Tag.POLYNOMIALS], 2, basis), level, scale)
    values = context.residues((2, len(basis), context.ring_degree))
    values[0] = unpacked(context, found[Tag.POLYNOMIALS], 1, basis)[0]
    values[1] = sampling.uniform(context, _seed(seed), basis)[0]
    return Ciphertext(values, level, scale)  # whoever sends it on, sends both


def _write_short(context: Context, short: ShortCiphertext) -> bytes:
    length, rows = context.data_primes[0].bit_length(), short.quotients.reshape(2, context.ring_degree)
    sent = context.kernels.packed(rows, [length - bits for bits in short.low_bits])
    found = {Tag.LEVEL: bytes([0]), Tag.SCALE: _SCALE.pack(short.scale)}
    return fields.written(
        Kind.CIPHERTEXT, context, found | {Tag.POLYNOMIALS: sent, Tag.LOW_BITS: bytes(short.low_bits)}
    )


def _read_short(context: Context, found: Mapping[Tag, bytes]) -> ShortCiphertext:
    prime, n, told = context.data_primes[0], context.ring_degree, found[Tag.LOW_BITS]
    length = prime.bit_length()
    if found[Tag.LEVEL] != bytes([0]) or len(told) != 2 or not any(told) or max(told) >= length:
        raise corrupt("low bits are missing that no result has")
    sent, sizes = memoryview(found[Tag.POLYNOMIALS]), [-(-n * (length - bits) // 8) for bits in told]
    if len(sent) != sum(sizes):
        raise corrupt(f"{len(sent)} bytes are not two polynomials without {told[0]} and {told[1]} low bits")
    quotients = context.residues((2, n))
    most = [prime - 1 >> bits for bits in told]
    if not context.kernels.unpacked(sent, [length - bits for bits in told], most, quotients):
        raise corrupt("a coefficient is not below its prime")
    return ShortCiphertext(quotients.reshape(2, 1, n), (told[0], told[1]), _scale(found[Tag.SCALE]))


def _level(context: Context, value: bytes) -> int:
    if len(value) != 1 or value[0] > context.max_level:
        raise corrupt("there is no such level")
    return value[0]


def _scale(value: bytes) -> float:
    scale = float(_SCALE.unpack(value)[0]) if len(value) == _SCALE.size else math.nan
    if not 0 < scale < math.inf:
        raise corrupt("there is no such scale")
    return scale


def _seed(value: bytes) -> bytes:
    if len(value) != sampling.SEED_BYTES:
        raise corrupt(f"a seed has {sampling.SEED_BYTES} bytes")
    return value


def _key_id(value: bytes) -> bytes:
    if len(value) != KEY_ID_BYTES:
        raise corrupt(f"a key pair's name has {KEY_ID_BYTES} bytes")
    return value


@dataclass(frozen=True, eq=False)
class EvaluationKeys:
    """What a client sends to a server.

    Attributes:
        key_id: 16 bytes that name the key pair.
        rotations: A key a step, by ascending steps.
        public: If there is one.
    """

    key_id: bytes
    rotations: Sequence[RotationKey]
    public: PublicKey | None


def _write_public(context: Context, key: PublicKey) -> bytes:
    return key.seed + packed(context, key.first, context.basis(context.max_level))


def _read_public(context: Context, value: bytes) -> PublicKey:
    seed, first = value[: sampling.SEED_BYTES], value[sampling.SEED_BYTES :]
    return PublicKey(unpacked(context, first, 1, context.basis(context.max_level))[0], _seed(seed))


def write_keys(context: Context, keys: EvaluationKeys) -> bytes:
    """Evaluation keys; each polynomial that is uniform as a seed."""
    found = {Tag.KEY_ID: keys.key_id}
    if keys.public:
        found[Tag.PUBLIC_KEY] = _write_public(context, keys.public)
    found[Tag.STEPS] = np.array([key.steps for key in keys.rotations], dtype="<u4").tobytes()
    found[Tag.ROTATION_KEYS] = b"".join(key.seed + packed(context, key.first, context.whole) for key in keys.rotations)
    return fields.written(Kind.EVALUATION_KEYS, context, found)


def read_keys(context: Context, payload: bytes) -> EvaluationKeys:
    """Undo ``write_keys``; raises what ``fields.read`` and ``unpacked`` do."""
    found = fields.read(Kind.EVALUATION_KEYS, context, payload)
    whole = frozenset({Tag.KEY_ID, Tag.STEPS, Tag.ROTATION_KEYS})
    fields.exactly(found, whole, whole | {Tag.PUBLIC_KEY})
    public = _read_public(context, found[Tag.PUBLIC_KEY]) if Tag.PUBLIC_KEY in found else None
    steps, digits = _steps(context, found[Tag.STEPS]), len(context.data_primes)
    size = sampling.SEED_BYTES + digits * sum(_row_bytes(context, context.whole))
    keys = found[Tag.ROTATION_KEYS]
    if len(keys) != size * len(steps):
        raise corrupt(f"{len(keys)} bytes are not {len(steps)} rotation keys")
    rotations = []
    for i, step in enumerate(steps):
        key = keys[i * size : (i + 1) * size]
        first = unpacked(context, key[sampling.SEED_BYTES :], digits, context.whole)
        rotations.append(RotationKey(step, first, key[: sampling.SEED_BYTES]))
    return EvaluationKeys(_key_id(found[Tag.KEY_ID]), rotations, public)


def _steps(context: Context, value: bytes) -> list[int]:
    if len(value) % 4:
        raise corrupt("steps have four bytes each")
    steps = [int(step) for step in np.frombuffer(value, dtype="<u4")]
    if steps != sorted(set(steps)) or any(not 0 < step < context.ring_degree // 2 for step in steps):
        raise corrupt("rotation steps are out of range, or out of order")
    if steps and not context.specials:
        raise corrupt("rotation keys need a special prime")
    return steps


@dataclass(frozen=True, eq=False)
class KeptKeys:
    """What a client puts away, in the clear.

    Attributes:
        key_id: 16 bytes that name the key pair.
        seed: The secret key's.
        steps: Of its rotation keys, ascending.
        public: Its public key, if it has one.
    """

    key_id: bytes
    seed: bytes
    steps: Sequence[int]
    public: PublicKey | None

    def __repr__(self) -> str:
        return "KeptKeys()"


def write_secret(context: Context, kept: KeptKeys) -> bytes:
    """The secret key's seed, and what belongs to it. Whoever reads it decrypts everything."""
    found = {Tag.SEED: kept.seed, Tag.KEY_ID: kept.key_id}
    if kept.public:
        found[Tag.PUBLIC_KEY] = _write_public(context, kept.public)
    found[Tag.STEPS] = np.array(kept.steps, dtype="<u4").tobytes()
    return fields.written(Kind.SECRET_KEY, context, found)


def read_secret(context: Context, payload: bytes) -> KeptKeys:
    """Undo ``write_secret``; raises what ``fields.read`` and ``unpacked`` do."""
    found = fields.read(Kind.SECRET_KEY, context, payload)
    whole = frozenset({Tag.SEED, Tag.KEY_ID, Tag.STEPS})
    fields.exactly(found, whole, whole | {Tag.PUBLIC_KEY})
    public = _read_public(context, found[Tag.PUBLIC_KEY]) if Tag.PUBLIC_KEY in found else None
    steps = _steps(context, found[Tag.STEPS])
    return KeptKeys(_key_id(found[Tag.KEY_ID]), _seed(found[Tag.SEED]), steps, public)
